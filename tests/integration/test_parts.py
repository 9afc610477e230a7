"""Idle workers help with a large set, and the answer is what one worker alone would have found."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from siftline.dispatch import silent
from siftline.domain.jobs import JobKind, Lane, Work
from siftline.settings import Settings
from siftline.store import jobs, parts
from siftline.store.models import JobPart
from siftline.store.parts import Part
from siftline.store.session import reading, transaction
from siftline_workers.helping import help_next
from siftline_workers.lifecycle import Supervisor
from siftline_workers.methods.backbones import Backbone
from siftline_workers.pipeline import dataset_images
from siftline_workers.pipeline import helper as helping
from siftline_workers.pipeline import parts as pipeline
from siftline_workers.pipeline.dataset_images import DatasetImages
from siftline_workers.pipeline.extract import extract
from siftline_workers.pipeline.feature_cache import FeatureCache
from siftline_workers.pipeline.helper import Helper
from siftline_workers.running import RunningJob
from tests.acceptance.programs import eventually
from tests.conftest import PATIENCE_S
from tests.integration.api.conftest import encoded, made, open_client
from tests.integration.job_steps import add_job, claim, read
from tests.networks import Lend

IMAGES, SIZE = 20, 8
HEAVY = (Lane.HEAVY,)
SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture(scope="module")
def lite(lend_network: Lend, tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    settings = Settings(data_dir=tmp_path_factory.mktemp("lite"))
    lend_network(settings.data_dir)
    return dataset_images.named_backbone("lite", settings)


@pytest.fixture
def sharing(settings: Settings, lend_network: Lend) -> Settings:
    lend_network(settings.data_dir)
    return settings.model_copy(update={"shard_images": SIZE})


@pytest.fixture
def job(sharing: Settings, sessions: sessionmaker[Session]) -> RunningJob:
    """A purification of a few images that a busy worker has begun."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (IMAGES, 48, 48, 3), dtype=np.uint8)
    files = [(f"{i}.png", encoded(Image.fromarray(each), "PNG")) for i, each in enumerate(pixels)]
    with open_client(sharing) as api:
        dataset = made(api, *files, data={"options": '{"purify": false}'})["dataset"]
    job_id = add_job(sessions, UUID(dataset["id"]), JobKind.PURIFY, backbone="lite")
    held = claim(sessions, job_id)
    return RunningJob(read(sessions, job_id), held, sharing, sessions, threading.Event())


def images(job: RunningJob) -> DatasetImages:
    return dataset_images.load(job.dataset_id, job.settings, job.sessions)


def extracted(job: RunningJob, backbone: Backbone) -> list[int]:
    """Which images, in the order of their content, have features."""
    cache = FeatureCache(job.settings.features_dir)
    stored = images(job).stored
    return [i for i, image in enumerate(stored) if cache.has(backbone.fingerprint, image.sha256)]


def helper(job: RunningJob) -> Supervisor:
    return Supervisor(job.settings, job.sessions, "an idle worker", silent)


@SQLITE
def test_an_idle_worker_extracts_what_another_has_not_come_to(
    job: RunningJob, lite: Backbone, tmp_path: Path
) -> None:
    found = images(job)
    with pipeline.offered(job, pipeline.of_extraction(job, found, lite)):
        assert help_next(helper(job), HEAVY, threading.Event())
        assert extracted(job, lite) == list(range(SIZE, IMAGES)), "its first part is the job's own"
        shared = extract(found.stored, lite, FeatureCache(job.settings.features_dir), lambda _: None)
    alone = extract(found.stored, lite, FeatureCache(tmp_path / "alone"), lambda _: None)
    assert np.array_equal(shared.patches, alone.patches)
    assert not help_next(helper(job), HEAVY, threading.Event()), "nothing is left to do"


@SQLITE
def test_what_is_extracted_already_is_not_offered(job: RunningJob, lite: Backbone) -> None:
    found = images(job)
    extract(found.stored[: 2 * SIZE], lite, FeatureCache(job.settings.features_dir), lambda _: None)
    with pipeline.offered(job, pipeline.of_extraction(job, found, lite)), reading(job.sessions) as session:
        assert parts.next_free(session, HEAVY) is None, "the one part left is the job's own"


@SQLITE
@pytest.mark.parametrize("why", ["withdrawn", "cancelled", "stopped"])
def test_a_helper_leaves_off_when_it_is_not_wanted(job: RunningJob, lite: Backbone, why: str) -> None:
    part, stop = Part(job.id, Work.EXTRACT, SIZE, IMAGES), threading.Event()
    with transaction(job.sessions) as session:
        parts.offer(session, [part])
        assert parts.take(session, part, "helper")
        if why == "withdrawn":
            assert parts.withdraw(session, job.id, job.owner) == 1
        if why == "cancelled":
            jobs.request_cancel(session, job.id)
    if why == "stopped":
        stop.set()
    helping.run(Helper(part, "helper", job.settings, job.sessions, stop))
    assert extracted(job, lite) == []


@SQLITE
def test_a_helper_leaves_a_large_set_for_a_small_one_that_is_handed_in(
    job: RunningJob, lite: Backbone
) -> None:
    with transaction(job.sessions) as session:
        parts.offer(session, [Part(job.id, Work.EXTRACT, 0, IMAGES)])
    small = add_job(job.sessions, kind=JobKind.PURIFY)
    assert help_next(helper(job), HEAVY, threading.Event())
    with reading(job.sessions) as session:
        assert jobs.next_queued(session, HEAVY) == small
    assert extracted(job, lite) == []


@SQLITE
def test_a_helper_that_stands_still_is_ended_with_the_job(
    sessions: sessionmaker[Session], settings: Settings
) -> None:
    held = claim(sessions, add_job(sessions))
    with offered(sessions, held.job_id, 0):
        pass
    hung = Supervisor(settings, sessions, "helper", silent, ("-c", "import time; time.sleep(600)"))
    helps = threading.Thread(target=help_next, args=(hung, HEAVY, threading.Event()))
    helps.start()
    eventually(lambda: taken_by(sessions, held.job_id) == ["helper"])
    with transaction(sessions) as session:
        jobs.succeed(session, held, {})
    helps.join(PATIENCE_S)
    assert not helps.is_alive()


def taken_by(sessions: sessionmaker[Session], job_id: UUID) -> list[str | None]:
    with reading(sessions) as session:
        return list(session.scalars(select(JobPart.taken_by).where(JobPart.job_id == job_id)))


@contextmanager
def offered(sessions: sessionmaker[Session], job_id: UUID, *starts: int) -> Iterator[Session]:
    with transaction(sessions) as session:
        parts.offer(session, [Part(job_id, Work.EXTRACT, start, start + SIZE) for start in starts])
        yield session


def test_a_part_goes_to_one_worker_and_the_last_one_first(sessions: sessionmaker[Session]) -> None:
    job_id = add_job(sessions)
    with offered(sessions, job_id, 8, 16, 24) as session:
        assert parts.next_free(session, HEAVY) is None, "nobody has begun the job"
    claim(sessions, job_id)
    with transaction(sessions) as session:
        assert parts.next_free(session, [Lane.LIGHT, Lane.GPU]) is None
        last = parts.next_free(session, HEAVY)
        assert last == Part(job_id, Work.EXTRACT, 24, 32)
        assert parts.take(session, last, "one")
        assert not parts.take(session, last, "other")
        assert parts.next_free(session, HEAVY) == Part(job_id, Work.EXTRACT, 16, 24)


def test_another_attempt_offers_what_nobody_has_taken(sessions: sessionmaker[Session]) -> None:
    job_id = add_job(sessions)
    claim(sessions, job_id)
    with offered(sessions, job_id, 8, 16) as session:
        assert parts.take(session, Part(job_id, Work.EXTRACT, 16, 24), "one that died")
    with offered(sessions, job_id, 8, 16) as session:
        assert parts.next_free(session, HEAVY) == Part(job_id, Work.EXTRACT, 8, 16)
        assert parts.withdraw(session, job_id, "me") == 1


def test_what_a_cancelled_job_offered_is_forgotten(sessions: sessionmaker[Session]) -> None:
    job_id, other = add_job(sessions), add_job(sessions)
    for each in (job_id, other):
        claim(sessions, each)
        with offered(sessions, each, 8):
            pass
    with transaction(sessions) as session:
        jobs.request_cancel(session, job_id)
        parts.forget_finished(session)
        assert parts.withdraw(session, job_id, "me") == 0
    with reading(sessions) as session:
        assert parts.next_free(session, HEAVY) == Part(other, Work.EXTRACT, 8, 16)
