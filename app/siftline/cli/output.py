"""What commands print: results on standard output, everything else on standard error."""

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from siftline.client.uploads import THERE_ALREADY
from siftline.client.wholefile import whole_file
from siftline.domain.errors import SiftlineError
from siftline.schemas import Job, Purified, Receipt

T = TypeVar("T")

# Wider than most terminals, which break lines by themselves: an id that a table cut short opens nothing.
# With a height, because rich takes every terminal called dumb for 80 by 25 unless it is given both.
out = Console(soft_wrap=True, width=200, height=25)
err = Console(soft_wrap=True, width=None if sys.stderr.isatty() else 200, stderr=True)


def say_error(message: str) -> None:
    err.print(f"[bold red]Error:[/] {escape(message)}")


def message_of(error: Exception) -> str:
    if isinstance(error, SiftlineError):
        return error.detail
    if isinstance(error, ValidationError):  # an option that no server has seen yet
        return "; ".join(f"{e['loc'][-1]}: {e['msg']}" if e["loc"] else e["msg"] for e in error.errors())
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def say(message: str) -> None:
    """A remark for people, kept out of what programs read."""
    err.print(escape(message))


def print_json(value: BaseModel | Sequence[BaseModel]) -> None:
    sys.stdout.write(_json(value) + "\n")


def write_json(path: Path, value: BaseModel) -> None:
    """The value as a file, whole or not at all; `-` is standard output."""
    if str(path) == "-":
        print_json(value)
        return
    with whole_file(path) as file:
        file.write(_json(value).encode() + b"\n")


def _json(value: BaseModel | Sequence[BaseModel]) -> str:
    if isinstance(value, BaseModel):
        return value.model_dump_json(indent=2)
    return json.dumps([item.model_dump(mode="json") for item in value], indent=2, ensure_ascii=False)


class JobProgress:
    """A bar with stage and time left for a job; a line per stage where nobody watches a terminal."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task
        self._stage: str | None = None

    def __call__(self, job: Job) -> None:
        stage = job.stage or job.state
        left = "" if job.eta_s is None else f"about {duration(job.eta_s)} left"
        self._progress.update(self._task, completed=job.progress, description=stage, left=left)
        if stage != self._stage and not err.is_terminal:
            say(f"{job.progress:4.0%}  {stage}")
        self._stage = stage


@contextmanager
def job_progress() -> Iterator[JobProgress]:
    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[left]}"),
    )
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        yield JobProgress(progress, progress.add_task("queued", total=1.0, left=""))


@contextmanager
def intake_progress(total: int) -> Iterator[Callable[[T], T]]:
    """A bar over files that pass through the function it gives."""
    columns = (TextColumn("reading     "), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task("reading", total=total)

        def look(file: T) -> T:
            progress.advance(task)
            return file

        yield look


@contextmanager
def transfer_progress(what: str) -> Iterator["TransferProgress"]:
    """A bar over the bytes that go one way or the other."""
    columns = (TextColumn(f"{what:<12}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        yield TransferProgress(progress, progress.add_task(what, total=None))


class TransferProgress:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def __call__(self, done: int, total: int | None) -> None:
        self._progress.update(self._task, completed=done, total=total)


@contextmanager
def count_progress(what: str) -> Iterator["TransferProgress"]:
    """A bar over things that are counted."""
    columns = (TextColumn(f"{what:<12}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        yield TransferProgress(progress, progress.add_task(what, total=None))


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def say_receipts(receipts: Sequence[Receipt], refused_shown: int = 10) -> None:
    """How many files were taken, and the first of those that were not, with the reason."""
    there = sum(receipt.reason == THERE_ALREADY for receipt in receipts)
    counts = Counter(receipt.status for receipt in receipts)
    told = [f"{counts['accepted']} accepted", f"{counts['duplicate'] - there} exact duplicates"]
    say(", ".join([*told, f"{counts['rejected']} refused", *([f"{there} there already"] if there else [])]))
    refused = [receipt for receipt in receipts if receipt.status == "rejected"]
    for receipt in refused[:refused_shown]:
        say(f"  refused {receipt.name}: {receipt.reason}")
    if len(refused) > refused_shown:
        say(f"  … and {len(refused) - refused_shown} more")


def print_purified(purified: Purified, top: int) -> None:
    """The head of the ranking, the split, and how much contamination there seems to be."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading, justify in (("rank", "right"), ("score", "right"), ("p", "right")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]  # rich wants a Literal
    for heading in ("80 % interval", "verdict", "", "image"):
        table.add_column(heading, overflow="fold")
    for item in purified.items[:top]:
        table.add_row(
            str(item.rank),
            f"{item.score:.3f}",
            f"{item.p_anomalous:.2f}",
            f"{item.interval[0]:.2f}-{item.interval[1]:.2f}",
            item.verdict,
            item.review or ("review" if item.needs_review else ""),
            escape(item.name),
        )
    out.print(table)
    for line in summary(purified):
        out.print(escape(line))


def summary(purified: Purified) -> list[str]:
    """Counts, contamination and cut in three lines."""
    counts, contamination = purified.counts, purified.contamination
    low, high = contamination.interval
    doubt = " (uncertain: look at the ranking rather than at the cut)" if purified.cut.uncertain else ""
    return [
        f"split          {counts.clean} clean, {counts.suspect} suspect; {counts.needs_review} need review",
        f"contamination  {contamination.estimate:.1%} (interval {low:.1%} to {high:.1%}), "
        f"evidence {contamination.evidence}",
        f"cut            score {purified.cut.score:.3f} by {purified.cut.rule}{doubt}",
    ]
