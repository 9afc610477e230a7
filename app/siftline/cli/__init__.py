"""The command line. Each command is an adapter: parse, call one function, print the answer.

Exit codes: 0 done · 1 the answer is no (an image fails the gate, the job failed, nothing to show yet) ·
2 usage (options, files, unknown ids, a wrong key) · 3 the server is out of reach or too slow · 130 Ctrl-C.
"""

import signal
import sys

import typer
from pydantic import ValidationError

from siftline.cli import (
    audit,
    detectors,
    exports,
    keys,
    purify,
    remote,
    review,
    score,
    servers,
    upkeep,
    uploads,
)
from siftline.cli.output import message_of, say_error
from siftline.client import JobFailed
from siftline.domain.errors import Conflict, SiftlineError, Unavailable

app = typer.Typer(
    name="siftline",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Rank a dump of inspection images from most to least suspect, and split it into clean and suspect.",
)
app.command("purify")(purify.purify)
app.command("upload")(uploads.upload)
remote.add_to(app)
review.add_to(app)
app.command("export")(exports.export)
detectors.add_to(app)
app.command("score")(score.score)
keys.add_to(app)
app.command("audit")(audit.audit)
servers.add_to(app)
upkeep.add_to(app)


def main() -> None:
    """Run the command line; every error is one line that says what to do."""
    # Unwinds, so that temporary folders go and workers stop; as the shell counts it, 128 + SIGTERM.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        app()
    except (SiftlineError, ValidationError, OSError) as error:
        say_error(message_of(error))
        sys.exit(exit_code_of(error))


def exit_code_of(error: Exception) -> int:
    if isinstance(error, Unavailable | TimeoutError):
        return 3
    if isinstance(error, JobFailed):
        return 2 if error.job.error is not None and error.job.error.status < 500 else 1
    if isinstance(error, Conflict):
        return 1
    if isinstance(error, SiftlineError) and error.status >= 500:
        return 3
    return 2
