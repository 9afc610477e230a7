"""`siftline export`."""

from pathlib import Path
from typing import Annotated, Literal
from uuid import UUID

import typer
from pydantic import BaseModel

from siftline.cli.options import AsJson, Key, Url, Version, connected
from siftline.cli.output import print_json, say, transfer_progress
from siftline.client import DEFAULT_URL
from siftline.client.purifications import ExportFormat
from siftline.domain.errors import Unprocessable
from siftline.schemas import Verdict

Format = Literal[ExportFormat, "html"]
BY_SUFFIX: dict[str, Format] = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".zip": "zip",
    ".json": "coco",
    ".html": "html",
}


class Exported(BaseModel):
    path: Path
    format: Format
    bytes: int


def export(
    dataset: Annotated[UUID, typer.Argument(help="Id of the dataset.")],
    path: Annotated[Path, typer.Argument(help="File to write.", dir_okay=False)],
    *,
    form: Annotated[
        Format | None,
        typer.Option(
            "--format",
            help="csv, jsonl, parquet: scores and decisions. coco: boxes, too. zip: the clean images. "
            "mvtec, fiftyone: zips as these read them. html: a report. By the file's ending if unset.",
        ),
    ] = None,
    version: Version = None,
    verdict: Annotated[Verdict | None, typer.Option(help="Only images that count as this.")] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Write a dataset's ranking, its clean images or a report to a file: all of it, or no file."""
    if str(path) == "-":
        raise Unprocessable("Name a file. For a pipe: siftline export … /dev/stdout --format csv")
    chosen = form or BY_SUFFIX.get(path.suffix.lower())
    if chosen is None:
        raise Unprocessable(f"{path.name} does not tell which format is wanted. Name it: --format csv")
    if chosen == "html" and verdict is not None:
        raise Unprocessable("A report is of all images: leave --verdict out")
    with connected(url, api_key) as client:
        if chosen == "html":
            client.report(dataset, path, version=version)
        else:
            with transfer_progress("receiving") as received:
                client.export(dataset, chosen, path, version=version, verdict=verdict, on_progress=received)
    done = Exported(path=path, format=chosen, bytes=path.stat().st_size)
    if as_json:
        print_json(done)
    elif path.is_file():
        say(f"{path}: {done.bytes:,} bytes")
