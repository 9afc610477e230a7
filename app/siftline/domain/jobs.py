"""The states of a job and the moves between them, and the line it waits in: the tables everybody asks."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class JobKind(StrEnum):
    PURIFY = "purify"
    RECUT = "recut"
    """A new version from the signals of an old one, after people decided."""
    SIMILAR = "similar"
    """Images like one that turned out bad."""
    TRAIN = "train"
    SCORE = "score"
    """More images than are scored while a request waits."""


class Work(StrEnum):
    """What a running job may have other workers do for it."""

    EXTRACT = "extract"
    """Features of images."""
    STUDENT = "student"
    """LLBNAD's sub-models that are students."""
    DOMAIN = "domain"
    """CDD's students of one domain each."""


class Lane(StrEnum):
    """What a job waits for. Every worker says which lanes it serves; a job never changes its lane."""

    LIGHT = "light"
    """Short work on what is there already: it never waits behind a training."""
    HEAVY = "heavy"
    GPU = "gpu"
    """As heavy, for backbones that the settings leave to workers with a GPU."""


LANES: Mapping[JobKind, Lane] = {
    JobKind.PURIFY: Lane.HEAVY,
    JobKind.TRAIN: Lane.HEAVY,
    JobKind.RECUT: Lane.LIGHT,
    JobKind.SIMILAR: Lane.LIGHT,
    JobKind.SCORE: Lane.LIGHT,
}


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a job is thought to need before it runs; None where nobody knows."""

    profile: str
    """What makes jobs comparable: kind, method, backbone."""
    units: int
    """How much work it is: tiles of images, or files to score."""
    seconds: float | None
    memory_bytes: int | None
    disk_bytes: int | None
    basis: str
    """Where the numbers come from, in words."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a job that succeeded took."""

    seconds: float
    peak_memory_bytes: int
    """Of its own, looked at every half second; without what it mapped from files."""


NEXT: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLING, JobState.FAILED}),
    # back to queued: the worker died or was shut down, and somebody else may have the job
    JobState.RUNNING: frozenset({JobState.QUEUED, JobState.CANCELLING, JobState.SUCCEEDED, JobState.FAILED}),
    JobState.CANCELLING: frozenset({JobState.CANCELLED}),
    JobState.CANCELLED: frozenset(),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
}

FINISHED = frozenset(state for state, nexts in NEXT.items() if not nexts)


def sources(to: JobState) -> frozenset[JobState]:
    """The states from which a job may move to `to`."""
    return frozenset(state for state, nexts in NEXT.items() if to in nexts)


def eta_s(progress: float, running_for_s: float) -> float | None:
    """Seconds left if the job goes on as fast as so far; None while there is too little to tell.

    Progress is weighted by measured stage times, so linear extrapolation is honest within a stage or two.
    """
    if progress < 0.01 or running_for_s < 1.0:
        return None
    return running_for_s * (1.0 - progress) / progress
