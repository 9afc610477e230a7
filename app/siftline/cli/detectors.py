"""`siftline train` and `siftline detectors`."""

import json
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import typer
from pydantic import TypeAdapter
from rich.markup import escape
from rich.table import Table

from siftline.cli.options import AsJson, Key, Url, Version, connected, follow
from siftline.cli.output import out, print_json, say, transfer_progress
from siftline.client import DEFAULT_URL
from siftline.domain.errors import Unprocessable
from siftline.schemas import (
    CddOptions,
    Detector,
    FunadOptions,
    NewCdd,
    NewDetector,
    NewFunad,
    TrainOptions,
)

DetectorId = Annotated[UUID, typer.Argument(help="Id of the detector.")]

group = typer.Typer(help="Show, download and delete detectors.", invoke_without_command=True)


def add_to(app: typer.Typer) -> None:
    app.command()(train)
    app.add_typer(group, name="detectors")
    group.command("list")(every)
    for command in (show, download, delete):
        group.command()(command)


def train(
    dataset: Annotated[UUID, typer.Argument(help="Id of the dataset.")],
    *,
    method: Annotated[Literal["funad", "cdd"], typer.Option(help="How to detect anomalies.")] = "funad",
    name: Annotated[str | None, typer.Option(help="Name of the detector.")] = None,
    version: Version = None,
    backbone: Annotated[
        str | None, typer.Option(help="Backbone preset; the purification's if unset.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of every random choice.")] = 0,
    target_fpr: Annotated[
        float | None, typer.Option(help="Share of good images that may be called defect (0.01).")
    ] = None,
    review_fpr: Annotated[
        float | None, typer.Option(help="Share of good images that may be called at least review (0.05).")
    ] = None,
    max_minutes: Annotated[float | None, typer.Option(help="Stop training then with what there is.")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Optimiser steps of the final model.")] = None,
    more: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", metavar="NAME=VALUE", help="An option of the method; any number."),
    ] = None,
    wait: Annotated[bool, typer.Option(help="Wait for the training and show its progress.")] = False,
    timeout_s: Annotated[
        float | None, typer.Option("--timeout", min=0.1, help="Seconds to wait; then exit with 3.")
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Train a detector on a dataset's clean images, human decisions included."""
    options = {
        "backbone": backbone,
        "seed": seed,
        "target_fpr": target_fpr,
        "review_fpr": review_fpr,
        "max_minutes": max_minutes,
        "max_steps": max_steps,
    }
    options = {given: value for given, value in options.items() if value is not None} | _named(more or [])
    _refuse_unknown(method, options)
    new = _new({"dataset_id": dataset, "version": version, "name": name, "method": method}, options)
    with connected(url, api_key) as client:
        created = client.train(new)
        if not as_json:
            out.print(f"detector {created.detector.id}")
            out.print(f"job      {created.job.id}")
        detector = created.detector
        if wait or timeout_s is not None:
            follow(client, created.job, timeout_s)
            detector = client.detector(detector.id)
    if as_json:
        print_json(detector)
    elif detector.calibration is not None:
        _print_one(detector)


def _named(pairs: list[str]) -> dict[str, Any]:
    """`NAME=VALUE` with the value as JSON, or else as text. Raises Unprocessable."""
    named: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise Unprocessable(f"An option is given as NAME=VALUE, not as {pair!r}")
        try:
            named[name] = json.loads(value)
        except ValueError:
            named[name] = value
    return named


def _new(head: dict[str, Any], options: dict[str, Any]) -> NewFunad | NewCdd:
    """Raises ValidationError."""
    given = {name: value for name, value in head.items() if value is not None}
    new: NewFunad | NewCdd = TypeAdapter(NewDetector).validate_python(given | {"options": options})
    return new


def _refuse_unknown(method: Literal["funad", "cdd"], options: dict[str, Any]) -> None:
    """Raises Unprocessable, which lists what there is."""
    kind: type[TrainOptions] = FunadOptions if method == "funad" else CddOptions
    known = kind.model_fields
    if unknown := sorted(set(options) - set(known)):
        raise Unprocessable(f"{method} has no option {', '.join(unknown)}: it has {', '.join(known)}.")


@group.callback()
def default(
    context: typer.Context, as_json: AsJson = False, url: Url = DEFAULT_URL, api_key: Key = None
) -> None:
    if context.invoked_subcommand is None:
        every(as_json=as_json, url=url, api_key=api_key)


def every(
    *,
    dataset: Annotated[UUID | None, typer.Option(help="Only detectors of this dataset.")] = None,
    last: Annotated[int, typer.Option(min=1, help="How many to show.")] = 20,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Show the newest detectors."""
    with connected(url, api_key) as client:
        found = list(islice(client.detectors(dataset), last))
    if as_json:
        print_json(found)
    elif found:
        _print_table(found)
    else:
        say("There are no detectors yet. To train one: siftline train DATASET_ID")


def show(
    detector: DetectorId, *, as_json: AsJson = False, url: Url = DEFAULT_URL, api_key: Key = None
) -> None:
    """Show one detector: what it was trained on, how it was calibrated, what it consists of."""
    with connected(url, api_key) as client:
        found = client.detector(detector)
    if as_json:
        print_json(found)
    else:
        _print_one(found)


def download(
    detector: DetectorId,
    name: Annotated[str, typer.Argument(help="Name of the artifact, such as model.onnx.")],
    path: Annotated[Path | None, typer.Argument(help="File to write; NAME here if unset.")] = None,
    *,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Write one of a detector's files to disk, once its SHA-256 is right."""
    target = path or Path(Path(name).name)
    with connected(url, api_key) as client, transfer_progress("receiving") as received:
        client.download_artifact(detector, name, target, received)
    say(f"{target}: {target.stat().st_size:,} bytes")


def delete(
    detector: DetectorId,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Delete a detector with its artifacts; gates that ask it fail from then on."""
    with connected(url, api_key) as client:
        found = client.detector(detector)
        if not yes:
            typer.confirm(f"Delete {found.name} ({found.method}, {found.id})?", abort=True, err=True)
        client.delete_detector(detector)
    say(f"Deleted {found.name}")


def _print_table(detectors: list[Detector]) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("detector", "dataset", "version", "method", "state", "name"):
        table.add_column(heading, no_wrap=True)
    for one in detectors:
        table.add_row(
            str(one.id), str(one.dataset_id), str(one.version), one.method, one.state, escape(one.name)
        )
    out.print(table)


def _print_one(detector: Detector) -> None:
    trained = f"version {detector.version} of dataset {detector.dataset_id}"
    lines = {"detector": f"{detector.name} ({detector.method}), {detector.id}", "trained on": trained}
    lines["state"] = detector.state
    if detector.lineage is not None:
        lines["trained on"] += f", {detector.lineage.images} images"
    if (card := detector.calibration) is not None:
        seen = ", of images the model had seen" if card.in_sample else ""
        lines["calibration"] = f"{card.method} on {card.n} images{seen}"
        lines["defect above"] = f"{card.threshold:.6g} ({card.target_fpr:.1%} of good images)"
        lines["review above"] = f"{card.review_threshold:.6g} ({card.review_fpr:.1%} of good images)"
    for heading, text in lines.items():
        out.print(f"{heading:<13} {escape(text)}")
    for artifact in detector.artifacts:
        out.print(f"{'artifact':<13} {artifact.name}, {artifact.bytes:,} bytes, sha256 {artifact.sha256}")
