"""The command line in this process, against servers in others: a process per command would cost a second."""

import contextlib
import io
import os
import signal
import sys
from pathlib import Path
from subprocess import CompletedProcess
from unittest import mock

from siftline.cli import main
from tests.integration.served import clean_environment


def run(*arguments: object, cwd: Path | None = None, **environment: str) -> "CompletedProcess[str]":
    """What `siftline ARGUMENTS` prints and how it exits."""
    given = ["siftline", *map(str, arguments)]
    printed, said = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO()
    before = signal.getsignal(signal.SIGTERM)
    with (
        mock.patch.object(sys, "argv", given),
        mock.patch.object(sys, "stdin", io.StringIO()),  # nobody answers
        mock.patch.dict(os.environ, clean_environment(**environment), clear=True),
        contextlib.chdir(cwd or Path.cwd()),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(said),
    ):
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        finally:
            signal.signal(signal.SIGTERM, before)
    printed.flush()
    output = printed.buffer.getvalue().decode()
    return CompletedProcess(given, code, output, said.getvalue())
