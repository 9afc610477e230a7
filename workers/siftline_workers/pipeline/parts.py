"""Many workers for one large set: what a job has before it is offered in parts to idle workers.

Both sides meet under a content key: an image's features in the feature cache, a piece of work (a student)
in the job's checkpoints. The job looks there when a part's turn comes, from the front; helpers take parts
from the back until the two meet. So the answer is the same with any number of helpers that come, go, or die.
What helpers do is in pipeline/helper.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from sqlalchemy.exc import IntegrityError

from siftline.dispatch import make_bell
from siftline.domain.jobs import Lane, Work
from siftline.store import jobs, parts
from siftline.store.parts import Part
from siftline.store.session import DATABASE_AWAY, after_commit, transaction
from siftline_workers.methods.backbones import Backbone
from siftline_workers.methods.pieces import Arrays, Compute, Keeper, Share, alone, name_of
from siftline_workers.methods.seeding import Progress
from siftline_workers.pipeline.checkpoints import Checkpoints
from siftline_workers.pipeline.dataset_images import DatasetImages
from siftline_workers.pipeline.extract import missing
from siftline_workers.pipeline.feature_cache import FeatureCache
from siftline_workers.running import RunningJob

log = logging.getLogger(__name__)

MOST_RINGS = 64
"""More workers than this hear of it from the sweeper's next ring, or not at all."""
LOOK_EVERY_S = 1.0


class _FoundElsewhere(Exception):
    """Somebody else has finished the piece in hand."""


@contextmanager
def offered(job: RunningJob, mine: Sequence[Part]) -> Iterator[None]:
    """While inside, workers with nothing to do may do the parts of `job` that it has not come to."""
    if mine:
        with _as_a_courtesy(job), transaction(job.sessions) as session:
            parts.offer(session, mine)
            lane, bell = Lane(jobs.get(session, job.id).lane), make_bell(job.settings)
            for _ in mine[:MOST_RINGS]:
                after_commit(session, partial(bell, lane, job.id))
    yield
    # Not when it failed or stopped: its next attempt goes on with the same parts, or the sweeper clears up.
    if mine:
        with _as_a_courtesy(job), transaction(job.sessions) as session:
            helped = parts.withdraw(session, job.id, job.owner)
            log.info("job %s: others took %d of %d parts", job.id, helped, len(mine))


def of_extraction(job: RunningJob, found: DatasetImages, backbone: Backbone) -> list[Part]:
    """All but the first, which the job begins with itself, and those that are extracted already."""
    size = job.settings.shard_images
    if not _is_large(job, len(found.stored)):
        return []
    # The order that helpers find the images in; the job's own may begin with those it knew before.
    stored = sorted(found.stored, key=lambda image: image.sha256)
    cache = FeatureCache(job.settings.features_dir)
    starts = range(0, len(stored), size)
    open_starts = [at for at in starts if missing(stored[at : at + size], backbone, cache, found.tone)]
    return [Part(job.id, Work.EXTRACT, start, start + size) for start in open_starts[1:]]


def sharing(job: RunningJob, checkpoints: Checkpoints, images: int) -> Share:
    """How `job` shares pieces of its work: a part each. Small sets are not worth a helper's start.

    A piece that a helper has begun is begun here, too, once nothing else is left, and given up when the
    helper's is there: so nobody waits for the dead, and nobody longer than for the living.
    """
    if not _is_large(job, images):
        return alone

    def share(
        _keeper: Keeper, work: Work, pieces: range, compute: Compute, on_progress: Progress
    ) -> list[Arrays]:
        open_pieces = [piece for piece in pieces if not checkpoints.has(name_of(work, piece))]

        def take_and_compute(piece: int, progress: Progress) -> Arrays:
            part = Part(job.id, work, piece, piece + 1)
            with _as_a_courtesy(job), transaction(job.sessions) as session:
                parts.take(session, part, job.owner)
            return unless_found(checkpoints, work, compute)(piece, progress)

        with offered(job, [Part(job.id, work, piece, piece + 1) for piece in open_pieces]):
            return alone(checkpoints, work, pieces, take_and_compute, on_progress)

    return share


def unless_found(checkpoints: Checkpoints, work: Work, compute: Compute) -> Compute:
    """`compute`, left off in the middle when the piece appears: by content, so it is the same."""

    def compute_unless_found(piece: int, on_progress: Progress) -> Arrays:
        name, looked_at = name_of(work, piece), time.monotonic()

        def look(share: float) -> None:
            nonlocal looked_at
            on_progress(share)
            if time.monotonic() - looked_at > LOOK_EVERY_S:
                looked_at = time.monotonic()
                if checkpoints.has(name):
                    raise _FoundElsewhere

        try:
            return compute(piece, look)
        except _FoundElsewhere:
            return checkpoints.load(name) or compute(piece, on_progress)

    return compute_unless_found


def _is_large(job: RunningJob, images: int) -> bool:
    return 0 < job.settings.shard_images < images


@contextmanager
def _as_a_courtesy(job: RunningJob) -> Iterator[None]:
    try:
        yield
    except (*DATABASE_AWAY, IntegrityError) as error:
        # The latter when an attempt that was thought dead woke up and offered the same in this moment.
        log.warning("job %s: no help asked for (%s)", job.id, type(error.orig).__name__)
