"""`siftline review`: what people decide, from the command line."""

from itertools import islice
from typing import Annotated
from uuid import UUID

import typer
from rich.markup import escape
from rich.table import Table

from siftline.cli.options import AsJson, Key, Url, Version, connected, follow
from siftline.cli.output import counted, out, print_json, say
from siftline.client import DEFAULT_URL, similar_of
from siftline.domain.errors import Unprocessable
from siftline.schemas import DecisionWord, Job, ReviewBatch, ReviewFilter, Selection, Verdict

DatasetId = Annotated[UUID, typer.Argument(help="Id of the dataset.")]
Wait = Annotated[bool, typer.Option(help="Wait for the job and show its progress.")]

group = typer.Typer(help="Keep or reject images, take it back, cut anew.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    app.add_typer(group, name="review")
    group.command("list")(every)
    for command in (decide, undo, recut, miss):
        group.command()(command)


def decide(
    dataset: DatasetId,
    decision: Annotated[DecisionWord, typer.Argument(help="clear takes a person's word back.")],
    images: Annotated[list[UUID] | None, typer.Argument(help="Ids of images; else say which below.")] = None,
    *,
    version: Version = None,
    verdict: Annotated[Verdict | None, typer.Option(help="All with this verdict of the machine.")] = None,
    needs_review: Annotated[
        bool | None, typer.Option("--needs-review/--sure", help="All that need review, or do not.")
    ] = None,
    reviewed: Annotated[ReviewFilter | None, typer.Option(help="All that a person said this of.")] = None,
    min_score: Annotated[float | None, typer.Option(help="All that score at least this.")] = None,
    max_score: Annotated[float | None, typer.Option(help="All that score at most this.")] = None,
    cluster: Annotated[int | None, typer.Option(min=0, help="All suspects of this group.")] = None,
    name_contains: Annotated[str | None, typer.Option(help="All whose name holds this.")] = None,
    revision: Annotated[
        int | None, typer.Option(min=0, help="Not if somebody else has decided on one of them since.")
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Keep, reject or clear images, named or all that fit every condition."""
    given = {
        "version": version,
        "verdict": verdict,
        "needs_review": needs_review,
        "review": reviewed,
        "min_score": min_score,
        "max_score": max_score,
        "cluster": cluster,
        "name_contains": name_contains,
    }
    conditions = {name: value for name, value in given.items() if value is not None}
    narrowed = conditions.keys() - {"version"}  # a version alone would be all of its images
    if not (images or narrowed) or (images and conditions):
        raise Unprocessable("Name images by their ids, or say which by --verdict, --cluster and the like")
    with connected(url, api_key) as client:
        if images:
            batch = client.review(dataset, dict.fromkeys(images, decision), revision=revision)
        else:
            selection = Selection.model_validate(conditions)
            batch = client.review_all(dataset, decision, selection, revision=revision)
    _show(batch, as_json=as_json)


def undo(
    dataset: DatasetId,
    batch: Annotated[UUID | None, typer.Argument(help="Id of the batch; your own newest if unset.")] = None,
    *,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Take a batch of decisions back; what was decided anew since stays."""
    with connected(url, api_key) as client:
        undone = client.undo(dataset, batch)
    if undone.skipped:
        say(f"{counted(undone.skipped, 'image')} decided anew since: left as found")
    _show(undone, as_json=as_json)


def every(
    dataset: DatasetId,
    *,
    last: Annotated[int, typer.Option(min=1, help="How many to show.")] = 20,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Show who decided when, newest first."""
    with connected(url, api_key) as client:
        found = list(islice(client.reviews(dataset), last))
    if as_json:
        print_json(found)
    elif found:
        _print_table(found)
    else:
        say("Nobody has decided anything yet")


def recut(
    dataset: DatasetId,
    *,
    cost_ratio: Annotated[
        float | None, typer.Option(help="Cost of keeping a bad image over losing a good one.")
    ] = None,
    cut_score: Annotated[float | None, typer.Option(help="Images above this score are suspect.")] = None,
    wait: Wait = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Make a new version of the newest one's scores and the decisions so far, without training again."""
    with connected(url, api_key) as client:
        job = client.recut(dataset, cost_ratio=cost_ratio, cut_score=cut_score)
        if wait:
            job = follow(client, job)
    _show_job(job, as_json=as_json)


def miss(
    dataset: DatasetId,
    image: Annotated[UUID, typer.Argument(help="Id of the image that turned out bad.")],
    *,
    wait: Wait = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Say that a kept image turned out bad: it is rejected, and images like it are looked for."""
    with connected(url, api_key) as client:
        job = client.report_miss(dataset, image)
        if wait:
            job = follow(client, job)
    _show_job(job, as_json=as_json)
    if not as_json:
        for found in similar_of(job):
            out.print(f"{found.similarity:.3f}  {found.image_id}  {escape(found.name)}")


def _show_job(job: Job, *, as_json: bool) -> None:
    if as_json:
        print_json(job)
    else:
        out.print(f"job {job.id} {job.state}")


def _show(batch: ReviewBatch, *, as_json: bool) -> None:
    if as_json:
        print_json(batch)
    else:
        say(f"{counted(batch.images, 'image')}, revision {batch.revision}")
        if batch.images:
            say(f"To take it back: siftline review undo {batch.dataset_id}")
        out.print(f"batch {batch.id}")


def _print_table(batches: list[ReviewBatch]) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("revision", "batch", "by", "at", "decision", "images", "undone"):
        table.add_column(heading, no_wrap=True)
    for batch in batches:
        what = "undo" if batch.undoes else batch.decision or "several"
        undone = "yes" if batch.undone_by else ""
        at = f"{batch.at:%Y-%m-%d %H:%M:%S}"
        table.add_row(
            str(batch.revision), str(batch.id), escape(batch.by), at, what, str(batch.images), undone
        )
    out.print(table)
