"""Options that many commands take, and what each does with them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from siftline.cli.output import job_progress, say
from siftline.client import Client, JobFailed
from siftline.domain.errors import Conflict
from siftline.schemas import Job

Url = Annotated[str, typer.Option("--url", envvar="SIFTLINE_URL", help="Address of the server.")]
Key = Annotated[
    str | None,
    typer.Option("--api-key", envvar="SIFTLINE_API_KEY", help="API key.", show_envvar=True),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write everything to this file; - prints it.")]
Version = Annotated[int | None, typer.Option(min=1, help="Version; the latest if unset.")]
ATTEMPTS = 4


@contextmanager
def connected(url: str, key: str | None) -> Iterator[Client]:
    with Client(url, key, attempts=ATTEMPTS) as client:
        yield client


def follow(client: Client, job: Job, timeout_s: float | None = None) -> Job:
    """Show a job's progress until it has succeeded. Raises JobFailed, TimeoutError, Conflict if cancelled."""
    with job_progress() as progress:
        try:
            return client.wait(job, timeout_s=timeout_s, on_progress=progress)
        except KeyboardInterrupt:
            say(f"The job goes on at the server. To stop it: siftline cancel {job.id}")
            raise
        except JobFailed as failure:
            if failure.job.state == "cancelled":
                raise Conflict(f"Job {job.id} was cancelled") from failure
            raise
