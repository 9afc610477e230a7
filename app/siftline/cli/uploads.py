"""`siftline upload`."""

import hashlib
import json
import os
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from siftline.cli.options import AsJson, Key, Url, connected, follow
from siftline.cli.output import out, print_json, say, say_receipts, transfer_progress
from siftline.client import DEFAULT_URL, Client
from siftline.client.multipart import OnProgress
from siftline.client.uploads import BATCH_FILES, Memo
from siftline.domain.errors import Conflict
from siftline.schemas import DatasetCreated, DatasetOptions


def upload(
    paths: Annotated[list[Path], typer.Argument(exists=True, help="Images, archives or folders.")] = [],  # noqa: B006 - typer's way to say optional
    *,
    source: Annotated[
        str | None, typer.Option(help="Instead: what the server itself reads, s3://… or file://…")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the dataset; the first path's if unset.")] = None,
    dataset: Annotated[UUID | None, typer.Option(help="Add to this dataset instead of making one.")] = None,
    backbone: Annotated[str | None, typer.Option(help="Backbone preset.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of every random choice.")] = 0,
    purify: Annotated[bool, typer.Option(help="Start purifying when all is there.")] = True,
    batch: Annotated[int, typer.Option(min=1, help="Most files per request.")] = BATCH_FILES,
    wait: Annotated[bool, typer.Option(help="Wait for the purification and show its progress.")] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Send images to a server; it purifies them by itself.

    Was it cut short? The same command again sends only what is missing.
    """
    if (source is None) == (not paths) or (source is not None and dataset is not None):
        raise typer.BadParameter("Give paths, or --source for a new dataset.")
    options = DatasetOptions(backbone=backbone, seed=seed, purify=purify)
    with connected(url, api_key) as client:
        with transfer_progress("sending") as sent:
            if source is not None:
                created = client.upload_from(name or source.rstrip("/").rpartition("/")[2], source, options)
            elif dataset is not None:
                created = client.add(dataset, paths, sent, purify=purify, batch_files=batch)
            else:
                created = _made(client, name or paths[0].resolve().name, paths, options, batch, sent)
        say_receipts(created.receipts)
        if as_json:
            print_json(created)
        else:
            out.print(f"dataset {created.dataset.id}")
        if created.job is not None and not as_json:
            out.print(f"job     {created.job.id}")
        if wait and created.job is not None:
            follow(client, created.job)
    if not any(receipt.status != "rejected" for receipt in created.receipts):
        raise Conflict("The server refused every file")


def _made(  # noqa: PLR0917 - one caller, right above
    client: Client,
    name: str,
    paths: list[Path],
    options: DatasetOptions,
    batch: int,
    sent: OnProgress,
) -> DatasetCreated:
    memo = _memo(client.url, name, paths, options)
    if memo is not None and memo.exists():
        say("Going on with the upload that was cut short")
    try:
        return client.upload(name, paths, options, sent, memo=memo, batch_files=batch)
    except BaseException:
        if Memo(memo).dataset_id is not None:
            say("What has arrived is kept. The same command again sends only the rest.")
        raise


def _memo(url: str, name: str, paths: list[Path], options: DatasetOptions) -> Path | None:
    """Where this very upload is remembered; None where this user may not keep a file."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(cache).expanduser() / "siftline" / "uploads"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    what = [url, name, options.model_dump_json(), *(str(path.resolve()) for path in paths)]
    digest = hashlib.sha256(json.dumps(what).encode()).hexdigest()
    return folder / f"{digest[:32]}.json" if os.access(folder, os.W_OK) else None
