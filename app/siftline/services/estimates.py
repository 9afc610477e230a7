"""What a job will need, told before it is accepted: from what jobs like it took, else from constants.

Where nothing was measured nothing is claimed: a figure is None then, and refuses nobody.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from uuid import UUID

from sqlalchemy.orm import Session

from siftline.domain.errors import InsufficientStorage, SiftlineError, Unprocessable
from siftline.domain.jobs import LANES, Estimate, JobKind, Lane
from siftline.imaging.tiles import tile_layout
from siftline.settings import GIB, MIB, Settings
from siftline.store import census, images, purifications, workers
from siftline.store.models import Worker

ENOUGH_LIKE_IT = 0.25
"""Jobs with less than this share of the work say little of one this large."""
START_BYTES = 800 * MIB
"""Of a process with torch, OpenVINO and a network, before the first image."""

TILE_BYTES: Mapping[str, int] = {
    "lite": 16 * 16 * 472 * 2,
    "wrn50": 32 * 32 * 1536 * 2,
    "dino-b8": 28 * 28 * 1536 * 2,
    "dinov2-b14": 28 * 28 * 1536 * 2,
}
"""Features of one tile on disk: patches × channels × two bytes."""


class DoesNotFit(Unprocessable):
    code = "does-not-fit"
    title = "No worker has room for the job"


@dataclass(frozen=True, slots=True)
class Cost:
    start_s: float
    unit_s: float
    start_bytes: int | None = None
    unit_bytes: int = 0
    most_units: int = 0
    """The largest of which memory was measured: by the same rule it says little of four times as many."""


COSTS: Mapping[str, Cost] = {
    # 200, 500, 1,000 tiles on a CPU, seconds of one processor (benchmarks.speed and by hand, 2026-11-22)
    "purify lite": Cost(10.0, 0.055, START_BYTES, 310_000, most_units=1000),
    # 471 to 667 tiles, FUN-AD: 63 s at 667 (benchmarks/LOG.md)
    "train funad lite": Cost(5.0, 0.090),
    "score": Cost(3.0, 0.030),
}


def lane_of(kind: JobKind, backbone: str | None, settings: Settings) -> Lane:
    """The kind's own, or that of the workers with a GPU for the backbones that are left to them."""
    lane = LANES[kind]
    return Lane.GPU if lane == Lane.HEAVY and backbone in settings.gpu_backbones else lane


def of_purification(session: Session, dataset_id: UUID, backbone: str) -> Estimate:
    """Of all images the dataset has."""
    return _of_images(session, dataset_id, JobKind.PURIFY, f"purify {backbone}", backbone)


def of_training(session: Session, dataset_id: UUID, method: str, backbone: str) -> Estimate:
    """As if every image were clean."""
    return _of_images(session, dataset_id, JobKind.TRAIN, f"train {method} {backbone}", backbone)


def of_scoring(session: Session, files: int) -> Estimate:
    return _estimated(session, JobKind.SCORE, "score", files, disk_bytes=None)


def _of_images(session: Session, dataset_id: UUID, kind: JobKind, profile: str, backbone: str) -> Estimate:
    units = sum(
        count * max(tile_layout(height, width)) for width, height, count in images.sizes(session, dataset_id)
    )
    tile_bytes = TILE_BYTES.get(backbone)
    disk_bytes = None
    if tile_bytes is not None:
        # Once while it runs, and once in the cache, where a version's backbone has left its features already.
        newest = purifications.latest(session, dataset_id)
        cached = newest is not None and newest.backbone["name"] == backbone
        disk_bytes = units * tile_bytes * (1 if cached else 2)
    return _estimated(session, kind, profile, units, disk_bytes=disk_bytes)


def _estimated(
    session: Session, kind: JobKind, profile: str, units: int, *, disk_bytes: int | None
) -> Estimate:
    done = [
        (job_units, usage)
        for job_units, usage in census.usages(session, kind, profile)
        if job_units >= max(1, ENOUGH_LIKE_IT * units)
    ]
    if done:
        return Estimate(
            profile=profile,
            units=units,
            seconds=median(usage["seconds"] * units / of for of, usage in done),
            memory_bytes=int(median(_grown(usage["peak_memory_bytes"], units / of) for of, usage in done)),
            disk_bytes=disk_bytes,
            basis=f"{len(done)} earlier jobs like it" if len(done) > 1 else "an earlier job like it",
        )
    cost = COSTS.get(profile)
    if cost is None:
        return Estimate(profile, units, None, None, disk_bytes, "nothing was measured of such a job yet")
    memory_bytes = None
    if cost.start_bytes is not None and units * ENOUGH_LIKE_IT <= cost.most_units:
        memory_bytes = cost.start_bytes + units * cost.unit_bytes
    return Estimate(
        profile, units, cost.start_s + units * cost.unit_s, memory_bytes, disk_bytes, "measured constants"
    )


def _grown(peak_bytes: int, factor: float) -> float:
    """What a process starts with does not grow with the work."""
    start = min(peak_bytes, START_BYTES)
    return start + (peak_bytes - start) * factor


def refusal(session: Session, estimate: Estimate, lane: Lane, settings: Settings) -> SiftlineError | None:
    """Why no worker of the lane can do it, with numbers; None when one can or none is known."""
    there = workers.serving(session, lane, 2 * settings.lease_s)
    if not there or any(_has_room(worker, estimate) for worker in there):
        return None
    needed = estimate.memory_bytes
    memory = max((worker.memory_bytes or 0 for worker in there), default=0)
    if needed is not None and memory and memory < needed:
        return DoesNotFit(
            f"It would need about {needed / GIB:.1f} GiB of memory ({estimate.basis}); the largest worker "
            f"for {lane} jobs has {memory / GIB:.1f} GiB. Fewer images or a smaller backbone need less."
        )
    free = max((worker.disk_free_bytes or 0 for worker in there), default=0)
    return InsufficientStorage(
        f"It would need about {(estimate.disk_bytes or 0) / GIB:.1f} GiB of disk; the worker for {lane} jobs "
        f"with most room has {free / GIB:.1f} GiB free."
    )


def _has_room(worker: Worker, estimate: Estimate) -> bool:
    memory, disk = worker.memory_bytes, worker.disk_free_bytes
    fits = memory is None or estimate.memory_bytes is None or memory >= estimate.memory_bytes
    return fits and (disk is None or estimate.disk_bytes is None or disk >= estimate.disk_bytes)
