"""`siftline score`: the gate of a pipeline."""

import base64
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Annotated
from uuid import UUID

import typer
from rich.markup import escape
from rich.table import Table

from siftline.cli.gate import PASSED, FailOn, GateReport, fails, judge
from siftline.cli.junit import junit
from siftline.cli.options import JsonFile, Key, Url, connected
from siftline.cli.output import count_progress, counted, message_of, out, say, say_error, write_json
from siftline.cli.sarif import sarif
from siftline.client import DEFAULT_URL
from siftline.client.detectors import SCORE_FILES, Explain
from siftline.client.multipart import FilePart, find_files, legible
from siftline.client.wholefile import whole_file
from siftline.domain.errors import Conflict, Unprocessable
from siftline.schemas import ScoreAnswer

UNWRITTEN = 2
MAP_PREFIX = "data:image/png;base64,"


def score(
    detector: Annotated[UUID, typer.Argument(help="Id of the detector.")],
    paths: Annotated[list[Path], typer.Argument(exists=True, help="Images, archives or folders.")],
    *,
    fail_on: Annotated[
        FailOn | None, typer.Option(help="Exit with 1 when an image is a defect, or at least to review.")
    ] = None,
    junit_file: Annotated[
        Path | None, typer.Option("--junit", help="Write JUnit XML: a test case per image.")
    ] = None,
    sarif_file: Annotated[
        Path | None, typer.Option("--sarif", help="Write SARIF 2.1.0: a result per image that is not ok.")
    ] = None,
    json_file: JsonFile = None,
    explain: Annotated[
        Path | None, typer.Option(file_okay=False, help="Write a heat map of each image into this folder.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Most files per request.")] = SCORE_FILES,
    timeout_s: Annotated[
        float | None, typer.Option("--timeout", min=0.1, help="Seconds for everything; then exit with 3.")
    ] = None,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Score images with a detector, and pass or fail.

    Exit codes: 0 passed · 1 an image fails the gate · 2 usage, or a file that is no readable image (the
    others are judged and reported all the same), or a report that cannot be written (the others are) ·
    3 the server is out of reach, or the time is up.
    """
    files = named(paths)
    with connected(url, api_key) as client, count_progress("scoring") as progress:
        drawn: Explain = "none" if explain is None else "map"
        try:
            answer = client.score(
                detector,
                files,
                explain=drawn,
                timeout_s=timeout_s,
                on_progress=progress,
                batch_files=batch,
            )
        except Conflict as error:  # a detector that is not ready has failed no image
            raise Unprocessable(error.detail) from error
    unwritten: list[OSError] = []
    if explain is not None:
        with _noted(unwritten):
            answer = with_maps_in(explain, answer)
    report = judge(answer, fail_on)
    for path, write in ((junit_file, junit), (sarif_file, sarif)):
        if path is not None:
            with _noted(unwritten), whole_file(path) as file:
                file.write(write(report))
    if json_file is not None:
        with _noted(unwritten):
            write_json(json_file, report)
    if json_file is None or str(json_file) != "-":
        _print(report)
    _say_outcome(report)
    for reason in unwritten:
        say_error(message_of(reason))
    raise typer.Exit(report.exit_code or (UNWRITTEN if unwritten else PASSED))


@contextmanager
def _noted(unwritten: list[OSError]) -> Iterator[None]:
    """A report that cannot be written costs neither the other ones nor the verdict."""
    try:
        yield
    except OSError as error:
        unwritten.append(error)


def named(paths: list[Path]) -> list[FilePart]:
    """Each file once, named by its path from here, as code hosts know it; outside by its whole path."""
    here = Path.cwd()
    files: dict[Path, FilePart] = {}
    for path in paths:
        for part in find_files([path]):
            content = part.content
            assert isinstance(content, Path)  # noqa: S101 - it was found on disk
            whole = Path(os.path.abspath(content))  # noqa: PTH100 - a link keeps the name it was given by
            name = whole.relative_to(here) if whole.is_relative_to(here) else whole
            files[whole] = FilePart(legible(name), content, part.size)
    return list(files.values())


def with_maps_in(folder: Path, answer: ScoreAnswer) -> ScoreAnswer:
    """Write the heat maps as PNG files named for their images; `map_url` is then the file."""
    taken: set[Path] = set()
    items = []
    for item in answer.items:
        if item.map_url is None or not item.map_url.startswith(MAP_PREFIX):
            items.append(item)
            continue
        path = _free(folder.joinpath(*_inside(item.name)), taken)
        with whole_file(path) as file:
            file.write(base64.b64decode(item.map_url.removeprefix(MAP_PREFIX)))
        items.append(item.model_copy(update={"map_url": path.as_posix()}))
    return answer.model_copy(update={"items": items})


def _inside(name: str) -> list[str]:
    """A name's parts, none of which leads out of a folder."""
    return [part for part in PurePosixPath(name).parts if part not in ("/", "//", "..")] or ["image"]


def _free(path: Path, taken: set[Path]) -> Path:
    number, candidate = 1, path.with_name(f"{path.name}.png")
    while candidate in taken:
        number += 1
        candidate = path.with_name(f"{path.name}-{number}.png")
    taken.add(candidate)
    return candidate


def _print(report: GateReport) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("verdict", "score", "p"):
        table.add_column(heading, justify="left" if heading == "verdict" else "right")
    table.add_column("image", overflow="fold")
    for item in sorted(report.items, key=lambda item: (-item.score, item.name)):
        table.add_row(item.verdict, f"{item.score:.4g}", f"{item.p_value:.3g}", escape(item.name))
    out.print(table)


def _say_outcome(report: GateReport) -> None:
    verdicts = [item.verdict for item in report.items]
    counts = ", ".join(f"{verdicts.count(word)} {word}" for word in ("ok", "review", "defect"))
    images = counted(len(verdicts), "image")
    say(f"{images} scored by {report.detector.name}: {counts}")
    for file in report.rejected:
        say_error(f"{file.name} could not be judged: {file.reason}")
    failed = sum(fails(item, report.fail_on) for item in report.items)
    if failed:
        say_error(f"{failed} of {images} failed the gate (--fail-on {report.fail_on})")
