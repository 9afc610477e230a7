"""Commands that talk to a server through the client: upload, purified, jobs, cancel."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from rich.table import Table

from siftline.cli.output import (
    duration,
    job_progress,
    out,
    print_json,
    print_purified,
    say,
    say_receipts,
    upload_progress,
    write_json,
)
from siftline.client import DEFAULT_URL, Client, JobFailed
from siftline.domain.errors import Conflict
from siftline.schemas import DatasetOptions, Job, Verdict

Url = Annotated[str, typer.Option("--url", envvar="SIFTLINE_URL", help="Address of the server.")]
Key = Annotated[
    str | None,
    typer.Option("--api-key", envvar="SIFTLINE_API_KEY", help="API key.", show_envvar=True),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def add_to(app: typer.Typer) -> None:
    for command in (upload, purified, jobs, cancel):
        app.command()(command)


@contextmanager
def connected(url: str, key: str | None) -> Iterator[Client]:
    with Client(url, key, attempts=4) as client:
        yield client


def upload(
    paths: Annotated[list[Path], typer.Argument(exists=True, help="Images, archives or folders.")],
    *,
    name: Annotated[str | None, typer.Option(help="Name of the dataset; the first path's if unset.")] = None,
    dataset: Annotated[UUID | None, typer.Option(help="Add to this dataset instead of making one.")] = None,
    backbone: Annotated[str | None, typer.Option(help="Backbone preset.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of every random choice.")] = 0,
    purify: Annotated[bool, typer.Option(help="Start purifying at once.")] = True,
    wait: Annotated[bool, typer.Option(help="Wait for the purification and show its progress.")] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Send images to a server; it purifies them by itself."""
    with connected(url, api_key) as client:
        with upload_progress() as sent:
            if dataset is not None:
                created = client.add(dataset, paths, sent)
            else:
                options = DatasetOptions(backbone=backbone, seed=seed, purify=purify)
                created = client.upload(name or paths[0].resolve().name, paths, options, sent)
        say_receipts(created.receipts)
        if as_json:
            print_json(created)
        else:
            out.print(f"dataset {created.dataset.id}")
        if created.job is not None and not as_json:
            out.print(f"job     {created.job.id}")
        if wait and created.job is not None:
            _follow(client, created.job)
    if not any(receipt.status != "rejected" for receipt in created.receipts):
        raise Conflict("The server refused every file")


def purified(
    dataset: Annotated[UUID, typer.Argument(help="Id of the dataset.")],
    *,
    version: Annotated[int | None, typer.Option(min=1, help="Version; the latest if unset.")] = None,
    verdict: Annotated[Verdict | None, typer.Option(help="Only these images.")] = None,
    top: Annotated[int, typer.Option(min=0, help="How many images to show.")] = 10,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write everything to this file; - prints it.")
    ] = None,
    wait_s: Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait for a running job.")] = 0,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Show the ranked split of a dataset."""
    with connected(url, api_key) as client:
        if wait_s:
            newest = client.dataset(dataset).job
            if newest is not None and version is None:
                _follow(client, newest, timeout_s=wait_s)
        limit = None if json_file else max(top, 1)
        answer = client.purified(dataset, version=version, verdict=verdict, limit=limit)
    if json_file is not None:
        write_json(json_file, answer)
    if json_file is None or str(json_file) != "-":
        print_purified(answer, top)


def jobs(
    job: Annotated[UUID | None, typer.Argument(help="One job; the newest ones if unset.")] = None,
    *,
    dataset: Annotated[UUID | None, typer.Option(help="Only jobs of this dataset.")] = None,
    last: Annotated[int, typer.Option(min=1, help="How many to show.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show progress until it ends.")] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Show the newest jobs, or one."""
    with connected(url, api_key) as client:
        if job is None:
            found = list(islice(client.jobs(dataset), last))
        elif follow:
            found = [_follow(client, client.job(job))]
        else:
            found = [client.job(job)]
    if as_json:
        print_json(found if job is None else found[0])
    else:
        _print_jobs(found)


def cancel(
    job: Annotated[UUID, typer.Argument(help="Id of the job.")],
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Ask a job to stop."""
    with connected(url, api_key) as client:
        out.print(f"job {job} is {client.cancel(job).state}")


def _follow(client: Client, job: Job, timeout_s: float | None = None) -> Job:
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


def _print_jobs(jobs: list[Job]) -> None:
    if not jobs:
        say("There are no jobs yet. To start one: siftline upload FOLDER")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("job", "dataset", "state", "stage", "done", "left"):
        table.add_column(heading, no_wrap=True)
    for job in jobs:
        left = "" if job.eta_s is None else duration(job.eta_s)
        table.add_row(
            str(job.id), str(job.dataset_id), job.state, job.stage or "", f"{job.progress:.0%}", left
        )
    out.print(table)
