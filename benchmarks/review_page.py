"""Server time of the review page on a dataset of 50,000 images: `python -m benchmarks.review_page`.

The rows are made up and written straight into the database (SQLite, or `--database-url` of an empty
PostgreSQL database); the service is real, in a process of its own, over HTTP on loopback. What a browser does
between the answers is not in these figures. Needs about 150 MB of disk and a minute.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import numpy as np
from sqlalchemy import insert
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from siftline.settings import Settings
from siftline.store import migrate
from siftline.store.models import Dataset, Image, Job, Purification, PurifiedItem
from siftline.store.session import make_engine, session_factory, transaction

HEAT = (32, 32)
REPEATS = 7
CHUNK = 2000
FIRST_LOOK: dict[str, str | int] = {"limit": 100, "verdict": "suspect"}
"""What a browser asks for first."""


def fill(session: Session, images: int) -> UUID:
    """A dataset with one version: one image in ten has near-duplicates, one in twenty is suspect."""
    at = datetime.now(UTC)
    dataset_id, job_id, purification_id = uuid7(), uuid7(), uuid7()
    session.add(Dataset(id=dataset_id, name="50,000 rows", created_at=at, options={}))
    session.flush()
    session.add(_job(job_id, dataset_id, at))
    session.flush()
    suspects = images // 20
    scores = np.sort(np.random.default_rng(0).standard_normal(images).astype(np.float32))[::-1]
    session.add(
        Purification(
            id=purification_id,
            dataset_id=dataset_id,
            job_id=job_id,
            version=1,
            created_at=at,
            options={},
            backbone={"name": "lite"},
            contamination={"estimate": 0.05, "interval": [0.04, 0.06], "evidence": "strong"},
            cut={"score": float(scores[suspects]), "rule": "made up", "uncertain": False},
            counts={
                "clean": images - suspects,
                "suspect": suspects,
                "needs_review": images // 50,
                "rejected_files": 0,
            },
            heat_scale={},
            stage_seconds={},
        )
    )
    session.flush()
    ids = [uuid7() for _ in range(images)]
    for start in range(0, images, CHUNK):
        ranks = range(start, min(start + CHUNK, images))
        session.execute(insert(Image), [_image(dataset_id, ids[i], i, at) for i in ranks])
        session.execute(
            insert(PurifiedItem),
            [_item(purification_id, ids, i, float(scores[i]), i < suspects) for i in ranks],
        )
    return dataset_id


def _job(job_id: UUID, dataset_id: UUID, at: datetime) -> Job:
    return Job(
        id=job_id,
        dataset_id=dataset_id,
        kind="purify",
        state="succeeded",
        params={},
        progress=1.0,
        attempt=1,
        created_at=at,
        updated_at=at,
        finished_at=at,
    )


def _image(dataset_id: UUID, image_id: UUID, i: int, at: datetime) -> dict[str, Any]:
    return {
        "id": image_id,
        "dataset_id": dataset_id,
        "name": f"camera-2/shift-{i % 3}/frame-{i:06d}.png",
        "sha256": f"{i:064x}",
        "bytes": 100_000,
        "width": 640,
        "height": 480,
        "mode": "L",
        "format": "png",
        "created_at": at,
        "review_revision": 0,
    }


def _item(purification_id: UUID, ids: list[UUID], i: int, score: float, suspect: bool) -> dict[str, Any]:
    tens = i - i % 20  # of every twenty, two are one thing
    twins = [str(ids[tens + (1 - i % 20)])] if i % 20 < 2 and tens + 1 < len(ids) else []
    return {
        "purification_id": purification_id,
        "rank": i + 1,
        "image_id": ids[i],
        "score": score,
        "p_anomalous": float(suspect),
        "interval_lo": 0.0,
        "interval_hi": 1.0,
        "verdict": "suspect" if suspect else "clean",
        "needs_review": i % 50 == 0,
        "confidence": 0.5 + (i * 7919 % 1000) / 2000,
        "signals": {"neighbours": score, "llbnad": score, "llbnad_spread": 0.1, "funad": score},
        "near_duplicates": twins,
        "cluster": i % 40 if suspect else None,
        "heat_rows": HEAT[0],
        "heat_cols": HEAT[1],
        "heat": bytes(HEAT[0] * HEAT[1]),
    }


@contextmanager
def served(settings: Settings) -> Iterator[httpx2.Client]:
    """The API alone, as `siftline api` runs it."""
    url = ["SIFTLINE_DATABASE_URL=" + settings.database_url] if settings.database_url else []
    command = [sys.executable, "-m", "siftline", "api", "--port", "0", "--data-dir", str(settings.data_dir)]
    process = subprocess.Popen(
        ["env", *url, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        address = next(
            word for line in process.stdout or () for word in line.split() if word.startswith("http://")
        )
        with httpx2.Client(base_url=address, timeout=60) as client:
            yield client
    finally:
        process.terminate()
        process.wait(20)


def milliseconds(call: Callable[[], httpx2.Response]) -> tuple[float, float, float]:
    """(first, median, worst of the rest)."""
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        call().raise_for_status()
        times.append(1000 * (time.perf_counter() - started))
    return times[0], statistics.median(times[1:]), max(times[1:])


def calls(client: httpx2.Client, dataset_id: UUID, images: int) -> dict[str, Callable[[], httpx2.Response]]:
    page, api = f"/d/{dataset_id}", f"/datasets/{dataset_id}"
    deep = 4 * images // 5
    first = client.get(f"{page}/items", params=FIRST_LOOK).json()["items"]
    decide = {"decisions": [{"image_id": first[0]["image_id"], "decision": "keep"}]}
    bulk = {"filter": {"verdict": "suspect"}, "decision": "keep"}

    def items(**wanted: Any) -> Callable[[], httpx2.Response]:
        return lambda: client.get(f"{page}/items", params={"limit": 100, **wanted})

    return {
        "page HTML": lambda: client.get(page),
        "list of datasets HTML": lambda: client.get("/"),
        "items, suspects": items(verdict="suspect"),
        "items, all": items(),
        f"items at offset {deep}": items(offset=deep),
        f"items at offset {deep}, unfolded": items(offset=deep, folded=False),
        "items, most disputed": items(order="disputed"),
        "items, name contains 4999": items(name_contains="4999"),
        "scores for the histogram": lambda: client.get(f"{page}/scores"),
        "tally": lambda: client.get(f"{page}/tally"),
        "clusters": lambda: client.get(f"{page}/clusters"),
        "one decision": lambda: client.post(f"{api}/reviews", json=decide),
        "undo": lambda: client.post(f"{api}/reviews/undo", json={}),
        "what changed since": lambda: client.get(f"{page}/changes", params={"since": 0}),
        f"keep {images // 20} by filter": lambda: client.post(f"{api}/reviews", json=bulk),
        "items after it": items(review="keep"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--database-url", help="an empty PostgreSQL database; SQLite if unset")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="siftline-page-") as folder:
        settings = Settings(data_dir=Path(folder), database_url=options.database_url)
        migrate.upgrade(settings)
        engine = make_engine(settings.sqlalchemy_url)
        with transaction(session_factory(engine)) as session:
            dataset_id = fill(session, options.images)
        print(
            f"{options.images} images on {engine.dialect.name}; ms: first, median and worst of {REPEATS - 1}"
        )
        engine.dispose()
        with served(settings) as client:
            started = time.perf_counter()
            client.get(f"/d/{dataset_id}/items", params=FIRST_LOOK).raise_for_status()
            print(f"{'the very first items, suspects':36} {1000 * (time.perf_counter() - started):7.1f}")
            for name, call in calls(client, dataset_id, options.images).items():
                first, median, worst = milliseconds(call)
                print(f"{name:36} {first:7.1f} {median:7.1f} {worst:7.1f}")


if __name__ == "__main__":
    main()
