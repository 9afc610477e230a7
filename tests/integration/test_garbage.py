"""Garbage goes; nothing that an upload or a job may still need goes with it."""

import hashlib
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy.orm import Session, sessionmaker
from uuid_utils.compat import uuid7

from siftline import caches
from siftline.caches import Freed
from siftline.garbage import FEW, collect
from siftline.imaging import ImageInfo
from siftline.services import ingest
from siftline.services.ingest import GoodFile
from siftline.settings import Settings
from siftline.store import idempotency
from siftline.store.blobs import image_key, thumbnail_key
from siftline.store.blobs_local import LocalBlobs
from siftline.store.session import now, reading, transaction
from siftline.store.spool import Spool, SpooledFile
from tests.integration.job_steps import add_dataset

DAY_S = 86_400.0
NOTHING = Freed()
Put = Callable[..., None]


@pytest.fixture
def blobs(settings: Settings) -> LocalBlobs:
    return LocalBlobs(settings.blobs_dir)


@pytest.fixture
def put(blobs: LocalBlobs, tmp_path: Path) -> Put:
    def put(key: str, *, age_s: float = 0.0) -> None:
        source = tmp_path / uuid4().hex
        source.write_bytes(b"x")
        blobs.put(key, source)
        grow_old(blobs.root / key, age_s)

    return put


def grow_old(path: Path, age_s: float) -> None:
    at = time.time() - age_s
    os.utime(path, (at, at))


def keys(blobs: LocalBlobs) -> set[str]:
    return {blob.key for blob in (*blobs.listed("datasets/"), *blobs.listed("probe/"))}


def good_file(path: Path, content: bytes) -> GoodFile:
    path.write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    info = ImageInfo(width=1, height=1, mode="L", format="PNG", samples=None)
    return GoodFile(SpooledFile(path.name, path, len(content), sha256, content[:512]), info)


def take_in(sessions: sessionmaker[Session], blobs: LocalBlobs, dataset_id: UUID, file: GoodFile) -> str:
    """As a request does it: bytes first, rows later. The key of the blob."""
    ingest.store_bytes(blobs, dataset_id, [file])
    with transaction(sessions) as session:
        ingest.record(session, dataset_id, [file])
    return image_key(dataset_id, file.file.sha256)


def test_bytes_without_a_row_go_when_they_are_old(
    sessions: sessionmaker[Session], settings: Settings, blobs: LocalBlobs, put: Put, tmp_path: Path
) -> None:
    ours, others = add_dataset(sessions), uuid7()
    kept = take_in(sessions, blobs, ours, good_file(tmp_path / "a.png", b"ours"))
    grow_old(blobs.root / kept, 2 * DAY_S)
    sha256, lost = kept.split("/")[-1], "f" * 64
    put(thumbnail_key(ours, sha256), age_s=2 * DAY_S)
    put(image_key(ours, "e" * 64))  # its row may be on its way
    put("datasets/what/is/this", age_s=2 * DAY_S)
    left = keys(blobs)
    for key in (image_key(ours, lost), thumbnail_key(ours, lost), image_key(others, sha256), "probe/killed"):
        put(key, age_s=2 * DAY_S)

    everything = keys(blobs)
    would_go = collect(sessions, settings, blobs, dry_run=True)
    assert keys(blobs) == everything
    assert would_go["blobs"] == Freed(4, 4)
    assert collect(sessions, settings, blobs) == would_go
    assert keys(blobs) == left
    assert collect(sessions, settings, blobs)["blobs"] == NOTHING


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_database_that_knows_next_to_nothing_is_not_believed(
    sessions: sessionmaker[Session], settings: Settings, blobs: LocalBlobs, put: Put
) -> None:
    for number in range(FEW + 1):
        put(image_key(uuid7(), f"{number:064x}"), age_s=2 * DAY_S)
    assert collect(sessions, settings, blobs)["blobs"] == Freed(FEW + 1, FEW + 1, held_back=True)
    assert len(keys(blobs)) == FEW + 1
    assert collect(sessions, settings, blobs, everything=True)["blobs"] == Freed(FEW + 1, FEW + 1)
    assert keys(blobs) == set()


def test_an_upload_beside_it_loses_nothing(
    sessions: sessionmaker[Session], settings: Settings, blobs: LocalBlobs, put: Put, tmp_path: Path
) -> None:
    dataset_id, stop, images = add_dataset(sessions), threading.Event(), 20
    files = [good_file(tmp_path / f"{i}.png", f"image {i}".encode()) for i in range(images)]
    for file in files:  # every one was sent before, by a request that died: an old orphan each
        put(image_key(dataset_id, file.file.sha256), age_s=2 * DAY_S)

    begun = threading.Barrier(3)

    def collect_on_and_on() -> None:
        begun.wait()
        while not stop.is_set():
            collect(sessions, settings, blobs)

    with ThreadPoolExecutor(2) as threads:
        collectors = [threads.submit(collect_on_and_on) for _ in range(2)]
        begun.wait()
        sent = {take_in(sessions, blobs, dataset_id, file) for file in files}
        stop.set()
        assert [collector.result() for collector in collectors] == [None, None]
    assert keys(blobs) == sent
    assert len(sent) == images


def test_old_answers_are_forgotten(
    sessions: sessionmaker[Session], settings: Settings, blobs: LocalBlobs
) -> None:
    with transaction(sessions) as session:
        for key, days in (("old", 8), ("new", 6)):
            at = now(session) - timedelta(days=days)
            idempotency.keep(
                session, key=key, route="r", request_hash="h", status=202, headers={}, body={}, created_at=at
            )
    assert collect(sessions, settings, blobs, dry_run=True)["answers"] == Freed(1)
    assert collect(sessions, settings, blobs)["answers"] == Freed(1)
    with reading(sessions) as session:
        assert idempotency.find(session, "old", "r") is None
        assert idempotency.find(session, "new", "r") is not None


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_caches_keep_to_their_size_and_what_was_used_last(
    sessions: sessionmaker[Session], settings: Settings, blobs: LocalBlobs
) -> None:
    settings = settings.model_copy(update={"features_max_bytes": 250, "work_max_bytes": 150})
    features, work = settings.features_dir / "ab", settings.work_dir
    for number, age_s in enumerate((5 * DAY_S, 3 * DAY_S, 60.0, 4 * DAY_S)):
        for path in (features / f"{number}.npy", work / f"{number}" / "a.npz"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes(100))
            grow_old(path, age_s)
        grow_old(work / f"{number}", age_s)
    forgotten = work / "forgotten"
    forgotten.mkdir()
    grow_old(forgotten, 30 * DAY_S)
    opened = work / "opened"
    opened.mkdir()
    (opened / "a.npz").write_bytes(b"")
    grow_old(opened / "a.npz", 30 * DAY_S)  # as where no file system notes that it is read
    (work / "listed, but gone").symlink_to(work / "nowhere")

    freed = collect(sessions, settings, blobs)
    assert freed["features"] == Freed(2, 200)
    assert sorted(path.stem for path in features.iterdir()) == ["1", "2"]
    assert freed["work"] == Freed(4, 300), "too much, and all but one older than a job at work leaves them"
    assert {path.name for path in work.iterdir() if path.is_dir()} == {"2", "opened"}


class MadeAnew(type(Path())):  # type: ignore[misc]  # 3.11's Path picks its own class for the system
    """A folder that was not there a moment ago."""

    def is_dir(self) -> bool:
        return False


def test_a_folder_that_is_made_anew_while_it_is_removed_stays(tmp_path: Path) -> None:
    (tmp_path / "piece").mkdir()
    caches._Kept(MadeAnew(tmp_path / "piece"), 0, 0.0).remove()
    assert (tmp_path / "piece").is_dir()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_spool_of_a_dead_process_goes_and_that_of_a_living_one_stays(
    sessions: sessionmaker[Session], settings: Settings, blobs: LocalBlobs
) -> None:
    living = Spool(settings.spool_dir)
    living.open()
    with living.folder() as folder, folder.writer("a") as writer:
        writer.write(b"on its way")
        dead = settings.spool_dir / uuid4().hex
        (dead / "request").mkdir(parents=True)
        dead.with_suffix(".lock").touch()
        (dead / "request" / "1").write_bytes(b"half")
        assert collect(sessions, settings, blobs, dry_run=True)["spool"] == Freed(1, 4)
        assert collect(sessions, settings, blobs)["spool"] == Freed(1, 4)
        assert not dead.exists()
        assert writer.close().path.read_bytes() == b"on its way"
    living.close()
