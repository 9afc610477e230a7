"""What many workers and images ask of network, database and disks: arithmetic, not a run.

python -m benchmarks.fleet [--workers 64] [--images 10000000] [--set 5000]

From what was measured here for `lite` on two cores (benchmarks/LOG.md) and what the code does per second; the
limits of a machine are assumed. Both are printed. Then a simulation of one large set, its extraction parted:
workers take parts as they get free, some die in the middle of one, and the job does again what they left.
"""

from __future__ import annotations

import argparse
import heapq
from dataclasses import dataclass
from math import ceil

import numpy as np

from siftline.settings import Settings
from siftline.store.session import KEPT_BY_WORKERS
from siftline_workers import running
from siftline_workers.pipeline import helper

MEASURED = {
    "cpu_s of an image in a purification": 0.034,  # 1,000 images: 45.0 s less 10.8 s of start
    "cpu_s of those its extraction": 0.0111,
    "cpu_s of a job's start, or a helper's": 10.8,
    "bytes of an image's features": 242_000.0,
    "bytes of an image's row in a version": 2_000.0,
}
ASSUMED = {
    "cores of a worker": 2.0,
    "bytes of a stored image": 100_000.0,
    "bytes/s of the network to the storage": 1.25e9,  # ten-gigabit Ethernet
    "small statements/s of PostgreSQL": 5_000.0,
    "rows/s that PostgreSQL takes in bulk": 20_000.0,
    "connections of PostgreSQL": 100.0,
    "bytes of the feature cache": float(100 * 2**30),
}


@dataclass(frozen=True, slots=True)
class Use:
    what: str
    asked: float
    limit: float
    unit: str


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--images", type=int, default=10_000_000)
    parser.add_argument("--set", type=int, default=5_000, help="images of one dataset")
    given = parser.parse_args()
    for title, figures in (("measured", MEASURED), ("assumed", ASSUMED)):
        print(f"{title}: " + "; ".join(f"{name} {value:g}" for name, value in figures.items()))
    sets = ceil(given.images / given.set)
    job_s = seconds_of(given.set)
    total_s = sets * job_s / given.workers
    print(
        f"\n{sets} sets of {given.set}, {job_s:.0f} s each: {total_s / 3600:.1f} h on {given.workers} workers"
    )
    for use in sorted(uses(given.workers, given.set, job_s), key=lambda use: -use.asked / use.limit):
        share = use.asked / use.limit
        print(f"{use.what:58}{use.asked:16,.0f} of {use.limit:16,.0f} {use.unit:10} {share:7.2f}")
    row = MEASURED["bytes of an image's row in a version"]
    print(f"\nthe versions together: {given.images * row / 1e9:.0f} GB")
    most = int(ASSUMED["bytes of the feature cache"] / MEASURED["bytes of an image's features"])
    print(f"one set fills a worker's feature cache at {most:,} images; that one, its extraction parted:")
    alone = None
    for workers in (1, 2, 8, given.workers):
        extract_s, redone = parted(most, workers, deaths_an_hour=0.5)
        rest_s = seconds_of(most) - extraction_s(most)
        alone = alone or extract_s + rest_s
        print(
            f"{workers:4} workers: extraction {extract_s / 60:7.1f} min ({redone} left by the dead), the "
            f"whole {(extract_s + rest_s) / 60:7.1f} min, {alone / (extract_s + rest_s):.2f} times as fast"
        )


def extraction_s(images: int) -> float:
    return images * MEASURED["cpu_s of those its extraction"] / ASSUMED["cores of a worker"]


def seconds_of(images: int) -> float:
    """Of one worker, alone, at one set."""
    cpu_s = images * MEASURED["cpu_s of an image in a purification"]
    return (cpu_s + MEASURED["cpu_s of a job's start, or a helper's"]) / ASSUMED["cores of a worker"]


def uses(workers: int, images: int, job_s: float) -> list[Use]:
    """Per second while all workers have a set of their own."""
    settings = Settings()
    rate = workers * images / job_s
    features = MEASURED["bytes of an image's features"]
    network = ASSUMED["bytes/s of the network to the storage"]
    # The watch's state, the child's progress, lease and beat.
    small = workers * (1 / settings.poll_s + 1 / running.REPORT_EVERY_S + 2 / (settings.lease_s / 3))
    # Offered, taken, asked for, withdrawn: only sets of more than shard_images, when a worker is idle.
    offered = ceil(images / settings.shard_images) if images > settings.shard_images > 0 else 0
    asked = (workers - 1) / helper.ASK_EVERY_S
    shared = rate * (ASSUMED["bytes of a stored image"] + 3 * features)
    return [
        Use("images read from the storage", rate * ASSUMED["bytes of a stored image"], network, "bytes/s"),
        Use("the same and features, if all share one folder", shared, network, "bytes/s"),
        Use(
            "rows of versions, written at the ends of jobs",
            rate,
            ASSUMED["rows/s that PostgreSQL takes in bulk"],
            "rows/s",
        ),
        Use(
            "small statements: states, progress, leases, beats",
            small,
            ASSUMED["small statements/s of PostgreSQL"],
            "/s",
        ),
        Use(
            "small statements of helpers, if all but one help",
            asked,
            ASSUMED["small statements/s of PostgreSQL"],
            "/s",
        ),
        Use("rows of parts, offered by all jobs at once", float(workers * offered), 1e6, "rows"),
        Use(
            "connections kept: a worker and its job each have one",
            2.0 * KEPT_BY_WORKERS * workers,
            ASSUMED["connections of PostgreSQL"],
            "",
        ),
    ]


def parted(images: int, workers: int, deaths_an_hour: float) -> tuple[float, int]:
    """Seconds of an extraction in parts, and how many parts its dead helpers left to the job."""
    random = np.random.default_rng(0)
    size = Settings().shard_images
    part_s, start_s = extraction_s(size), MEASURED["cpu_s of a job's start, or a helper's"] / 2
    free = [(0.0, 0)] + [(start_s, worker) for worker in range(1, workers)]
    left = 0
    for _ in range(ceil(images / size)):
        at, worker = heapq.heappop(free)
        dies = worker > 0 and random.random() < part_s * deaths_an_hour / 3600
        left += dies
        # Another takes its place, and has to start; of the part the job does all again, which is too much.
        heapq.heappush(free, (at + part_s * (0.5 if dies else 1.0) + (start_s if dies else 0.0), worker))
    return max(at for at, _ in free) + left * part_s, left


if __name__ == "__main__":
    main()
