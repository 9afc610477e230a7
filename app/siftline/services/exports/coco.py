"""COCO: every image, and a box around each hot region of those that count as suspect."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np
from sqlalchemy import Row

from siftline.domain.regions import HOT, Region, hot_regions
from siftline.schemas import Verdict
from siftline.services.exports.rows import Lineage, as_json, with_records

CHUNK_BYTES = 1 << 18


def write_coco(
    rows: Iterable[Row[Any]],
    verdict: Verdict | None,
    lineage: Lineage,
    out: BinaryIO,
    new_file: Callable[[], BinaryIO],
) -> None:
    """`rows` with heat; those that count as `verdict` go in.

    Image ids are ranks; a box's `score` is its region's peak, 0..1.

    An image that a person rejected although nothing in it is hot has no box: there is none to show.
    """
    about = {
        "description": f"Siftline: {lineage.dataset}, version {lineage.version}",
        "date_created": lineage.purified_at.isoformat(),
        "box_threshold": HOT / 255,
        "lineage": lineage.as_json(),
    }
    categories = [{"id": 1, "name": "anomaly", "supercategory": "anomaly"}]
    out.write(b'{"info": ' + as_json(about) + b', "licenses": [], "categories": ' + as_json(categories))
    out.write(b',\n"images": [')
    images = boxes = 0
    with new_file() as annotations:
        for row, record in with_records(rows):
            if verdict not in (None, record["verdict"]):
                continue
            image = {"id": record["rank"], "file_name": record["file"], **_without(record, "file", "rank")}
            out.write((b",\n" if images else b"\n") + as_json(image))
            images += 1
            for annotation in _annotations(row) if record["verdict"] == "suspect" else ():
                boxes += 1
                annotations.write((b",\n" if boxes > 1 else b"\n") + as_json({"id": boxes, **annotation}))
        out.write(b'],\n"annotations": [')
        annotations.seek(0)
        while chunk := annotations.read(CHUNK_BYTES):
            out.write(chunk)
    out.write(b"]}\n")


def _annotations(row: Row[Any]) -> Iterator[dict[str, Any]]:
    heat = np.frombuffer(row.heat, dtype=np.uint8).reshape(row.heat_rows, row.heat_cols)
    for region in hot_regions(heat):
        x, y, width, height = _box(region, row)
        cell = row.width / row.heat_cols * row.height / row.heat_rows
        yield {
            "image_id": row.rank,
            "category_id": 1,
            "bbox": [x, y, width, height],
            "area": round(region.cells * cell, 2),
            "iscrowd": 0,
            "score": round(region.peak / 255, 4),
        }


def _box(region: Region, row: Row[Any]) -> tuple[float, float, float, float]:
    """Left, top, width and height in pixels of the image as it is displayed."""
    across, down = row.width / row.heat_cols, row.height / row.heat_rows
    width, height = (region.right - region.left) * across, (region.bottom - region.top) * down
    return (
        round(region.left * across, 2),
        round(region.top * down, 2),
        round(width, 2),
        round(height, 2),
    )


def _without(record: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in names}
