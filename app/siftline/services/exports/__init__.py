"""A version carried out of the house: tables, annotations, and archives of its images.

What is read from the database is read once, in one statement, into a nameless file on the disk; then it is
sent: an export is of one moment however long it takes, costs no memory, and fails before its first byte.
"""

import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Literal
from uuid import UUID

from sqlalchemy import Row
from sqlalchemy.orm import Session, sessionmaker

from siftline.schemas import Verdict
from siftline.services import purification
from siftline.services.exports import archives, zipping
from siftline.services.exports.coco import write_coco
from siftline.services.exports.parquet import write_parquet
from siftline.services.exports.rows import Lineage, records, write_csv, write_jsonl
from siftline.store import datasets, exports
from siftline.store.blobs import Blobs
from siftline.store.models import Purification
from siftline.store.session import reading

Format = Literal["csv", "jsonl", "parquet", "coco", "zip", "mvtec", "fiftyone"]
TABLES: dict[str, Callable[[Iterable[dict[str, Any]], Lineage, BinaryIO], None]] = {
    "csv": write_csv,
    "jsonl": write_jsonl,
    "parquet": write_parquet,
}
MEDIA_TYPES: dict[Format, str] = {
    "csv": "text/csv; charset=utf-8",
    "jsonl": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
    "coco": "application/json",
    "zip": "application/zip",
    "mvtec": "application/zip",
    "fiftyone": "application/zip",
}
ENDINGS = {"coco": "coco.json", "mvtec": "mvtec.zip", "fiftyone": "fiftyone.zip"}
CHUNK_BYTES = 1 << 18
NewFile = Callable[[], BinaryIO]


@dataclass(frozen=True, slots=True)
class Export:
    """What is sent: exactly `length` bytes, or an exception from `chunks` if the storage breaks meanwhile."""

    file_name: str
    media_type: str
    length: int
    chunks: Generator[bytes]


def export(
    sessions: sessionmaker[Session],
    blobs: Blobs,
    folder: Path,
    dataset_id: UUID,
    fmt: Format,
    *,
    version: int | None = None,
    verdict: Verdict | None = None,
) -> Export:
    """A version, or the newest, with what people have decided until now; `verdict`: the one that counts.

    A zip without `verdict` has the clean images. `folder` takes temporary files. Raises NotFound,
    PurificationNotReady, and Unavailable when the storage has lost images that belong in.
    """
    if fmt == "zip" and verdict is None:
        verdict = "clean"
    with ExitStack() as files:
        with reading(sessions) as session:
            found = purification.find(session, dataset_id, version)
            lineage = _lineage(session, found)
            rows = exports.rows(session, found.id, with_heat=fmt == "coco")
            new_file = partial(_temporary, folder, files)
            if fmt in archives.LAYOUTS:
                length, chunks = _archive(rows, fmt, verdict, lineage, blobs=blobs, new_file=new_file)
            else:
                length, chunks = _table(rows, fmt, verdict, lineage, new_file=new_file)
        sent = _closing(files.pop_all(), chunks)
    name = f"{archives.root_of(lineage)}-v{found.version}.{ENDINGS.get(fmt, fmt)}"
    return Export(name, MEDIA_TYPES[fmt], length, sent)


def _lineage(session: Session, found: Purification) -> Lineage:
    dataset = datasets.get(session, found.dataset_id)
    return Lineage(
        dataset_id=str(dataset.id),
        dataset=dataset.name,
        version=found.version,
        purified_at=found.created_at,
        review_revision=dataset.review_revision,
        backbone=found.backbone,
        options=found.options,
        signals=exports.signal_names(session, found.id),
    )


def _wanted(every: Iterable[dict[str, Any]], verdict: Verdict | None) -> Iterator[dict[str, Any]]:
    # Chosen here and not by the query: an image's name in archives depends on all images before it.
    return (record for record in every if verdict in (None, record["verdict"]))


def _table(
    rows: Iterable[Row[Any]], fmt: Format, verdict: Verdict | None, lineage: Lineage, *, new_file: NewFile
) -> tuple[int, Iterator[bytes]]:
    file = new_file()
    if fmt == "coco":
        write_coco(rows, verdict, lineage, file, new_file)
    else:
        TABLES[fmt](_wanted(records(rows), verdict), lineage, file)
    return file.tell(), _chunks(file)


def _archive(
    rows: Iterable[Row[Any]],
    fmt: Format,
    verdict: Verdict | None,
    lineage: Lineage,
    *,
    blobs: Blobs,
    new_file: NewFile,
) -> tuple[int, Iterator[bytes]]:
    layout = archives.LAYOUTS[fmt]
    manifest, side, directory = (new_file() for _ in range(3))
    wanted = _wanted(records(rows, flat=layout.flat), verdict)
    write_jsonl(archives.placed(wanted, layout, lineage), lineage, manifest)
    layout.write_side(archives.read_back(manifest), lineage, side)
    for file in (manifest, side):
        file.flush()
    archives.require_bytes(blobs, lineage, manifest)
    members = partial(archives.members, blobs, manifest, side, layout, lineage)
    return zipping.length(members()), zipping.stream(members(), lineage.purified_at, directory)


def _temporary(folder: Path, files: ExitStack) -> BinaryIO:
    """A file without a name: it is gone with its last reader, whatever happens."""
    folder.mkdir(parents=True, exist_ok=True)
    return files.enter_context(tempfile.TemporaryFile(dir=folder))


def _closing(files: ExitStack, chunks: Iterator[bytes]) -> Generator[bytes]:
    with files:
        yield from chunks


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    file.seek(0)
    while chunk := file.read(CHUNK_BYTES):
        yield chunk
