"""Many workers for one large set: what a job is about to extract is offered in parts to idle workers.

Both sides meet in the feature cache, where an image's features lie under its content: the job looks there
when an image's turn comes, and so does a helper, which takes its part from the back until the two meet. So
the answer is the same with any number of helpers that come, go, or die.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from siftline.dispatch import make_bell
from siftline.domain.errors import SiftlineError
from siftline.domain.jobs import Lane
from siftline.schemas import PurifyOptions
from siftline.settings import Settings
from siftline.store import jobs, parts
from siftline.store.parts import Part
from siftline.store.session import DATABASE_AWAY, after_commit, reading, transaction
from siftline_workers.methods.backbones import Backbone
from siftline_workers.pipeline import dataset_images
from siftline_workers.pipeline.dataset_images import DatasetImages
from siftline_workers.pipeline.extract import ExtractionFailed, fill_cache, missing
from siftline_workers.pipeline.feature_cache import FeatureCache
from siftline_workers.running import RunningJob

log = logging.getLogger(__name__)

MOST_RINGS = 64
"""More workers than this hear of it from the sweeper's next ring, or not at all."""
ASK_EVERY_S = 1.0


class Unwanted(Exception):
    """The job has come past the part, or ended, or this worker has better things to do."""


@contextmanager
def offered(job: RunningJob, found: DatasetImages, backbone: Backbone) -> Iterator[None]:
    """While inside, workers with nothing to do may extract what `job` has not come to."""
    mine = _parts(job, found, backbone)
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
            helped = parts.withdraw(session, job.id)
            log.info("job %s: others took %d of %d parts", job.id, helped, len(mine))


def _parts(job: RunningJob, found: DatasetImages, backbone: Backbone) -> list[Part]:
    """All but the first, which the job begins with itself, and those that are extracted already."""
    size = job.settings.shard_images
    if not 0 < size < len(found.stored):
        return []
    # The order that helpers find the images in; the job's own may begin with those it knew before.
    stored = sorted(found.stored, key=lambda image: image.sha256)
    cache = FeatureCache(job.settings.features_dir)
    all_parts = [Part(job.id, start, start + size) for start in range(0, len(stored), size)]
    open_parts = [p for p in all_parts if missing(stored[p.start : p.stop], backbone, cache, found.tone)]
    return open_parts[1:]


@contextmanager
def _as_a_courtesy(job: RunningJob) -> Iterator[None]:
    try:
        yield
    except (*DATABASE_AWAY, IntegrityError) as error:
        # The latter when an attempt that was thought dead woke up and offered the same in this moment.
        log.warning("job %s: no help asked for (%s)", job.id, type(error.orig).__name__)


def extract_part(
    part: Part, settings: Settings, sessions: sessionmaker[Session], stop: threading.Event
) -> None:
    """Extract a part that was taken, as long as it is wanted.

    Whatever fails here fails in the job, too, and is told there.
    """
    asked_at = 0.0

    def watch(_share: float) -> None:
        nonlocal asked_at
        if stop.is_set():
            raise Unwanted
        if time.monotonic() - asked_at > ASK_EVERY_S:
            with reading(sessions) as session:
                if not parts.is_wanted(session, part):
                    raise Unwanted
            asked_at = time.monotonic()

    try:
        with reading(sessions) as session:
            job = jobs.get(session, part.job_id)
        options = PurifyOptions.model_validate(job.params)
        found = dataset_images.load(job.dataset_id, settings, sessions)
        backbone = dataset_images.named_backbone(options.backbone, settings)
        images = found.stored[part.start : part.stop][::-1]
        fill_cache(images, backbone, FeatureCache(settings.features_dir), watch, found.tone)
        log.info("job %s: extracted images %d to %d for it", part.job_id, part.start, part.stop)
    except Unwanted:
        log.info("job %s: needs no more help", part.job_id)
    except (SiftlineError, ExtractionFailed) as error:
        log.warning("job %s: no help with %d to %d: %s", part.job_id, part.start, part.stop, error)
