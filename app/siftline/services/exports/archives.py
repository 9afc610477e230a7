"""Archives of a version's images: what goes in where, from a manifest that is written first and read back."""

import json
import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any, BinaryIO
from uuid import UUID

from siftline.domain.errors import Unavailable
from siftline.services.exports.names import safe_part
from siftline.services.exports.rows import Lineage, as_json, write_csv
from siftline.services.exports.zipping import Member
from siftline.store.blobs import Blobs, dataset_prefix, image_key

MOST_NAMED = 100


@dataclass(frozen=True, slots=True)
class Layout:
    """`place` says where a record's image goes; `side` writes what else the format needs from all records."""

    place: Callable[[dict[str, Any], Lineage], str]
    manifest: str
    """Name of the manifest, one JSON object a line; `{root}` is the archive's one folder."""
    side: str
    write_side: Callable[[Iterable[dict[str, Any]], Lineage, BinaryIO], None]
    flat: bool = False


def _in_images(record: dict[str, Any], _lineage: Lineage) -> str:
    return f"images/{record['file']}"


def _as_mvtec(record: dict[str, Any], lineage: Lineage) -> str:
    folder = "train/good" if record["verdict"] == "clean" else "test/suspect"
    return f"{folder_of(lineage)}/{folder}/{record['file']}"


def _by_id(record: dict[str, Any], _lineage: Lineage) -> str:
    return f"data/{record['image_id']}{PurePosixPath(record['file']).suffix}"


def root_of(lineage: Lineage) -> str:
    return safe_part(lineage.dataset.replace("/", "_").replace("\\", "_")) or "dataset"


def folder_of(lineage: Lineage) -> str:
    """Plain ASCII: anomalib refuses any other folder ("non-printable characters")."""
    plain = unicodedata.normalize("NFKD", root_of(lineage)).encode("ascii", "ignore").decode()
    return safe_part(plain) or "dataset"


def _write_labels(records: Iterable[dict[str, Any]], lineage: Lineage, out: BinaryIO) -> None:
    """FiftyOneImageClassificationDataset: a label with attributes for each file name without its ending."""
    out.write(b'{"classes": ["clean", "suspect"], "info": ' + as_json(lineage.as_json()) + b',\n"labels": {')
    for i, record in enumerate(records):
        attributes = {
            k: v for k, v in record.items() if k not in ("file", "verdict", "confidence", "lineage")
        }
        label = {"label": record["verdict"], "confidence": record["confidence"], "attributes": attributes}
        out.write((b",\n" if i else b"\n") + as_json(record["image_id"]) + b": " + as_json(label))
    out.write(b"}}\n")


LAYOUTS: dict[str, Layout] = {
    "zip": Layout(_in_images, "manifest.jsonl", "manifest.csv", write_csv),
    "mvtec": Layout(_as_mvtec, "{root}/manifest.jsonl", "{root}/manifest.csv", write_csv, flat=True),
    "fiftyone": Layout(_by_id, "manifest.jsonl", "labels.json", _write_labels),
}


def placed(records: Iterable[dict[str, Any]], layout: Layout, lineage: Lineage) -> Iterator[dict[str, Any]]:
    """The records with `file` as their image's path in the archive."""
    for record in records:
        yield {**record, "file": layout.place(record, lineage)}


def read_back(manifest: BinaryIO) -> Iterator[dict[str, Any]]:
    """The records of a manifest as JSON lines; only one reader at a time."""
    manifest.seek(0)
    return map(json.loads, manifest)


def require_bytes(blobs: Blobs, lineage: Lineage, manifest: BinaryIO) -> None:
    """Raises Unavailable, naming them, when the storage has lost images: half of them is worse than none."""
    dataset_id = UUID(lineage.dataset_id)
    stored = {blob.key for blob in blobs.listed(dataset_prefix(dataset_id))}
    lost = [r for r in read_back(manifest) if image_key(dataset_id, r["sha256"]) not in stored]
    if lost:
        raise Unavailable(
            f"The bytes of {len(lost)} images are missing from the storage; see `errors`.",
            errors=[{"image_id": r["image_id"], "name": r["name"]} for r in lost[:MOST_NAMED]],
            retry_after_s=60,
        )


def members(
    blobs: Blobs, manifest: BinaryIO, side: BinaryIO, layout: Layout, lineage: Lineage
) -> Iterator[Member]:
    """The manifest and its companion, then the images; may be gone through again from the start."""
    for name, file in ((layout.manifest, manifest), (layout.side, side)):
        size = os.fstat(file.fileno()).st_size
        yield Member(name.format(root=folder_of(lineage)), size, partial(_again, file))
    for record in read_back(manifest):
        key = image_key(UUID(lineage.dataset_id), record["sha256"])
        yield Member(record["file"], record["bytes"], partial(blobs.open, key))


def _again(file: BinaryIO) -> BinaryIO:
    """The file from its start, to be closed without closing it."""
    file.seek(0)
    return os.fdopen(os.dup(file.fileno()), "rb")
