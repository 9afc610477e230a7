"""Commands that look at what a server has: purified, jobs, cancel."""

from itertools import islice
from typing import Annotated
from uuid import UUID

import typer
from rich.table import Table

from siftline.cli.options import AsJson, JsonFile, Key, Url, Version, connected, follow
from siftline.cli.output import duration, out, print_json, print_purified, say, write_json
from siftline.client import DEFAULT_URL
from siftline.domain.errors import Unprocessable
from siftline.schemas import Job, Verdict


def add_to(app: typer.Typer) -> None:
    for command in (purified, jobs, cancel):
        app.command()(command)


def purified(
    dataset: Annotated[UUID, typer.Argument(help="Id of the dataset.")],
    *,
    version: Version = None,
    verdict: Annotated[Verdict | None, typer.Option(help="Only these images.")] = None,
    top: Annotated[int, typer.Option(min=0, help="How many images to show.")] = 10,
    json_file: JsonFile = None,
    wait_s: Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait for a running job.")] = 0,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Show the ranked split of a dataset."""
    with connected(url, api_key) as client:
        if wait_s:
            newest = client.dataset(dataset).job
            if newest is not None and version is None:
                follow(client, newest, timeout_s=wait_s)
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
    to_end: Annotated[bool, typer.Option("--follow", "-f", help="Show progress until it ends.")] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Show the newest jobs, or one."""
    if to_end and job is None:
        raise Unprocessable("Name the job to follow: siftline jobs JOB_ID --follow")
    with connected(url, api_key) as client:
        if job is None:
            found = list(islice(client.jobs(dataset), last))
        elif to_end:
            found = [follow(client, client.job(job))]
        else:
            found = [client.job(job)]
    if as_json:
        print_json(found if job is None else found[0])
    else:
        _print_jobs(found)


def cancel(
    job: Annotated[UUID, typer.Argument(help="Id of the job.")],
    *,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Ask a job to stop."""
    with connected(url, api_key) as client:
        cancelled = client.cancel(job)
    if as_json:
        print_json(cancelled)
    else:
        out.print(f"job {job} is {cancelled.state}")


def _print_jobs(jobs: list[Job]) -> None:
    if not jobs:
        say("There are no jobs yet. To start one: siftline upload FOLDER")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("job", "kind", "dataset", "state", "stage", "done", "left"):
        table.add_column(heading, no_wrap=True)
    for job in jobs:
        left = "" if job.eta_s is None else duration(job.eta_s)
        where = (str(job.dataset_id), job.state, job.stage or "", f"{job.progress:.0%}", left)
        table.add_row(str(job.id), job.kind, *where)
    out.print(table)
