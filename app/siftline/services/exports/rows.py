"""One image of an export as a record, and the plainest ways to write records."""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from io import TextIOWrapper
from typing import Any, BinaryIO

from sqlalchemy import Row

from siftline.services.exports.names import SafeNames

# What a spreadsheet would run: it begins like a formula and has more in it than a file's name needs.
FORMULA = re.compile(r"\s*(=|[+\-@].*[^\w./ \-])", re.DOTALL)
FIELDS = (
    "file", "image_id", "name", "sha256", "bytes", "width", "height",
    "rank", "score", "p_anomalous", "interval_lo", "interval_hi", "confidence",
    "verdict", "machine_verdict", "needs_review", "review", "reviewed_by", "reviewed_at",
    "cluster", "near_duplicates",
)  # fmt: skip
ORIGIN = ("dataset_id", "dataset", "version", "purified_at", "backbone", "options")


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where the rows of an export come from."""

    dataset_id: str
    dataset: str
    version: int
    purified_at: datetime
    review_revision: int
    backbone: Mapping[str, Any]
    options: Mapping[str, Any]
    signals: tuple[str, ...]
    """The names of the signals that every row has."""

    def as_json(self) -> dict[str, Any]:
        return {
            "dataset_id": self.dataset_id,
            "dataset": self.dataset,
            "version": self.version,
            "purified_at": self.purified_at.isoformat(),
            "review_revision": self.review_revision,
            "backbone": dict(self.backbone),
            "options": dict(self.options),
        }


def records(rows: Iterable[Row[Any]], *, flat: bool = False) -> Iterator[dict[str, Any]]:
    """Every row as a record. `file` is the image's name in archives; `verdict` the one that counts."""
    return (record for _, record in with_records(rows, flat=flat))


def with_records(
    rows: Iterable[Row[Any]], *, flat: bool = False
) -> Iterator[tuple[Row[Any], dict[str, Any]]]:
    """Every row beside its record."""
    names = SafeNames(flat=flat)
    for row in rows:
        yield (
            row,
            {
                "file": names.name(row.name, row.format, row.sha256),
                "image_id": str(row.id),
                "name": row.name,
                "sha256": row.sha256,
                "bytes": row.bytes,
                "width": row.width,
                "height": row.height,
                "rank": row.rank,
                "score": row.score,
                "p_anomalous": row.p_anomalous,
                "interval_lo": row.interval_lo,
                "interval_hi": row.interval_hi,
                "confidence": row.confidence,
                "verdict": row.effective,
                "machine_verdict": row.machine_verdict,
                "needs_review": row.needs_review,
                "review": row.review,
                "reviewed_by": row.reviewed_by,
                "reviewed_at": row.reviewed_at,
                "cluster": row.cluster,
                "near_duplicates": row.near_duplicates,
                "signals": row.signals,
            },
        )


def columns(lineage: Lineage) -> list[str]:
    """What `flattened` gives, in its order."""
    return [*FIELDS, *(f"signal_{name}" for name in lineage.signals), *ORIGIN]


def flattened(record: Mapping[str, Any], lineage: Lineage) -> dict[str, Any]:
    """For tables: a column for each signal, and the lineage in columns of its own."""
    signals = [record["signals"].get(name) for name in lineage.signals]
    origin = [
        lineage.dataset_id,
        lineage.dataset,
        lineage.version,
        lineage.purified_at,
        lineage.backbone.get("name"),
        json.dumps(lineage.options, ensure_ascii=False),
    ]
    values = [*(record[name] for name in FIELDS), *signals, *origin]
    return dict(zip(columns(lineage), values, strict=True))


def write_csv(records: Iterable[Mapping[str, Any]], lineage: Lineage, out: BinaryIO) -> None:
    """UTF-8, RFC 4180. What a spreadsheet would take for a formula gets an apostrophe in front."""
    text = TextIOWrapper(out, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text)
    writer.writerow(columns(lineage))
    for record in records:
        writer.writerow([_cell(value) for value in flattened(record, lineage).values()])
    text.detach()


def _cell(value: object) -> object:
    if isinstance(value, str):
        return f"'{value}" if FORMULA.match(value) else value
    if isinstance(value, datetime):
        return value.isoformat()
    return " ".join(value) if isinstance(value, list) else value


def write_jsonl(records: Iterable[Mapping[str, Any]], lineage: Lineage, out: BinaryIO) -> None:
    """One JSON object a line, each with the lineage: a line taken out of it still says where it is from."""
    told = lineage.as_json()
    for record in records:
        out.write(as_json({**record, "lineage": told}) + b"\n")


def as_json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, default=_moment).encode()


def _moment(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no place in an export")
