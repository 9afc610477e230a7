"""Sets of any size for measuring speed: real photographs, repeated so that no two are near-duplicates.

Every photograph of `../shared/data` (Magnetic Tile and ELPV) in turn, and when all are used up all of them
again in the next of the eight orientations a square has. Each copy is cropped at random (5-15 % of either
axis) and made brighter or darker by up to a tenth. An orientation is never used twice for one photograph,
and a turned or mirrored layout has nothing in common with the other (near_duplicates.py compares layouts).
"""

from __future__ import annotations

import csv
import hashlib
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from uuid import UUID

import numpy as np
from PIL import Image
from sqlalchemy.orm import Session, sessionmaker
from uuid_utils.compat import uuid7

from benchmarks.data import SHARED, elpv_images
from siftline.domain.jobs import JobKind
from siftline.settings import Settings
from siftline.store import images, jobs
from siftline.store.blobs import image_key
from siftline.store.models import Dataset
from siftline.store.session import now, transaction

ORIENTATIONS = (None, *Image.Transpose)


def pictures(folder: Path, count: int) -> list[Path]:
    """The first `count` pictures, made in `folder` unless they are there. ValueError for more than 31,744."""
    sources = _photographs()
    if count > len(sources) * len(ORIENTATIONS):
        raise ValueError(f"{len(sources)} photographs give {len(sources) * len(ORIENTATIONS)} pictures")
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{i:05d}.jpg" for i in range(count)]
    missing = [i for i in range(count) if not paths[i].exists()]
    with ProcessPoolExecutor() as workers:
        made = [
            workers.submit(_make, i, sources[i % len(sources)], i // len(sources), paths[i]) for i in missing
        ]
        for future in made:
            future.result()
    return paths


def _photographs() -> list[Path]:
    root = SHARED / "magnetic_tile"
    with (root / "manifest.csv").open(newline="") as file:
        found = [root / row["path"] for row in csv.DictReader(file)]
    found += sorted(elpv_images().glob("*.png"))
    return [found[i] for i in np.random.default_rng(0).permutation(len(found))]


def _make(number: int, source: Path, orientation: int, target: Path) -> None:
    random = np.random.default_rng(number)
    with Image.open(source) as photograph:
        grey = photograph.convert("L")
    turn = ORIENTATIONS[orientation]
    turned = grey if turn is None else grey.transpose(turn)
    width, height = turned.size
    left, top, right, bottom = random.uniform(0.025, 0.075, 4)
    box = (left * width, top * height, (1 - right) * width, (1 - bottom) * height)
    cropped = np.asarray(turned.crop(tuple(round(edge) for edge in box)), np.float32)
    lit = np.clip(cropped * random.uniform(0.9, 1.1), 0, 255).astype(np.uint8)
    part = target.with_suffix(".part")
    Image.fromarray(lit).convert("RGB").save(part, "JPEG", quality=92)
    part.replace(target)


def add_images(
    sessions: sessionmaker[Session], settings: Settings, dataset_id: UUID, paths: list[Path]
) -> None:
    """As an upload would have stored them, without looking at them: intake is not what is measured."""
    rows = []
    for path in paths:
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        blob = settings.blobs_dir / image_key(dataset_id, sha256)
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.hardlink_to(path)
        rows.append({"id": uuid7(), "dataset_id": dataset_id, "name": path.name, "sha256": sha256})
    with transaction(sessions) as session:
        fixed = {
            "bytes": 1,
            "width": 8,
            "height": 8,
            "mode": "RGB",
            "format": "JPEG",
            "created_at": now(session),
        }
        images.add_new(session, [row | fixed for row in rows])


def new_dataset(sessions: sessionmaker[Session]) -> UUID:
    with transaction(sessions) as session:
        dataset = Dataset(id=uuid7(), name="speed", created_at=now(session), options={})
        session.add(dataset)
    return dataset.id


def new_purification(sessions: sessionmaker[Session], dataset_id: UUID, seed: int = 0) -> UUID:
    with transaction(sessions) as session:
        params = {"backbone": "lite", "seed": seed}
        return jobs.create(session, dataset_id, JobKind.PURIFY, params).id
