"""What a worker does for a job that another one runs (see pipeline/parts).

It begins as the job did, from the database and the caches, and comes to the same content key; what it
finishes lies where the job looks for it. With another code, another set of images or another folder it comes
to another key, and was of no help.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from sqlalchemy.orm import Session, sessionmaker

from siftline.domain.errors import SiftlineError
from siftline.domain.jobs import Work
from siftline.schemas import PurifyOptions
from siftline.settings import Settings
from siftline.store import jobs, parts
from siftline.store.jobs import Claim
from siftline.store.parts import Part
from siftline.store.session import reading, transaction
from siftline_workers.methods.parallel import for_each
from siftline_workers.methods.pieces import Arrays, Compute, Keeper, alone, name_of
from siftline_workers.methods.seeding import Progress, ignore_progress
from siftline_workers.pipeline import dataset_images, purify, train
from siftline_workers.pipeline.checkpoints import Checkpoints
from siftline_workers.pipeline.extract import ExtractionFailed, fill_cache
from siftline_workers.pipeline.feature_cache import FeatureCache
from siftline_workers.pipeline.parts import unless_found
from siftline_workers.running import RunningJob

log = logging.getLogger(__name__)

ASK_EVERY_S = 1.0


class Unwanted(Exception):
    """The job has come past the part, or ended, or this worker has better things to do."""


@dataclass
class Helper:
    """One worker's help with one work of one job: a part that was taken, and after it others of its kind."""

    first: Part
    worker_id: str
    settings: Settings
    sessions: sessionmaker[Session]
    stop: threading.Event
    _begun: bool = False
    _asked_at: float = 0.0
    _choosing: threading.Lock = field(default_factory=threading.Lock)

    def job(self) -> RunningJob:
        """The job to look at. It holds no claim: what it might write is refused."""
        with reading(self.sessions) as session:
            row = jobs.get(session, self.first.job_id)
        return RunningJob(row, Claim(row.id, self.worker_id, -1), self.settings, self.sessions, self.stop)

    def taken(self) -> Iterator[Part]:
        """Parts to be done, from any thread: each to one of them."""
        while (part := self._next()) is not None:
            yield part

    def _next(self) -> Part | None:
        with self._choosing:
            if not self._begun:
                self._begun = True
                return self.first
        while not self.stop.is_set():
            with reading(self.sessions) as session:
                part = parts.next_like(session, self.first)
            if part is None:
                return None
            with transaction(self.sessions) as session:
                if parts.take(session, part, self.worker_id):
                    return part
        return None

    def check(self, part: Part) -> None:
        """Raises Unwanted. Asks the database once a second at most."""
        if self.stop.is_set():
            raise Unwanted
        if time.monotonic() - self._asked_at > ASK_EVERY_S:
            self._asked_at = time.monotonic()
            with reading(self.sessions) as session:
                if not parts.is_wanted(session, part):
                    raise Unwanted


def run(helper: Helper) -> None:
    """Do the part that was taken, and others like it, as long as they are wanted.

    Whatever fails here fails in the job, too, and is told there.
    """
    try:
        HELP[helper.first.work](helper)
    except Unwanted:
        log.info("job %s: needs no more help", helper.first.job_id)
    except (SiftlineError, ExtractionFailed) as error:
        log.warning("job %s: no help with its part %s: %s", helper.first.job_id, helper.first, error)


def _extract(helper: Helper) -> None:
    job = helper.job()
    options = PurifyOptions.model_validate(job.params)
    found = dataset_images.load(job.dataset_id, job.settings, job.sessions)
    backbone = dataset_images.named_backbone(options.backbone, job.settings)
    cache = FeatureCache(job.settings.features_dir)
    for part in helper.taken():
        # From the back: the job comes from the front.
        images = found.stored[part.start : part.stop][::-1]

        def watch(_share: float, part: Part = part) -> None:
            helper.check(part)

        fill_cache(images, backbone, cache, watch, found.tone)
        log.info("job %s: extracted images %d to %d for it", job.id, part.start, part.stop)


def _students(helper: Helper) -> None:
    found = purify.students_of(helper.job(), lambda _share: helper.check(helper.first))
    if found is not None:
        students, checkpoints = found
        _do_all(helper, checkpoints, students.piece)


def _domains(helper: Helper) -> None:
    """Goes through the training as the job did, up to what is shared."""
    checkpoints: list[Checkpoints] = []

    def share(
        keeper: Keeper, work: Work, pieces: range, compute: Compute, on_progress: Progress
    ) -> list[Arrays]:
        if helper.first.start not in pieces:
            return alone(keeper, work, pieces, compute, on_progress)
        _do_all(helper, checkpoints[0], compute)
        raise Unwanted

    train.again(helper.job(), checkpoints.append, share, lambda _share: helper.check(helper.first))


def _do_all(helper: Helper, checkpoints: Checkpoints, compute: Compute) -> None:
    """Side by side, as many as there are processors."""
    work = helper.first.work

    def do_some(_thread: int) -> None:
        for part in helper.taken():
            name, check = name_of(work, part.start), _checking(helper, part)
            if not checkpoints.has(name):
                checkpoints.save(name, unless_found(checkpoints, work, compute)(part.start, check))
                log.info("job %s: did %s for it", part.job_id, name)

    with suppress(Unwanted):
        for_each(do_some, 0, os.cpu_count() or 1, ignore_progress)


def _checking(helper: Helper, part: Part) -> Progress:
    return lambda _share: helper.check(part)


HELP: Mapping[Work, Callable[[Helper], None]] = {
    Work.EXTRACT: _extract,
    Work.STUDENT: _students,
    Work.DOMAIN: _domains,
}
