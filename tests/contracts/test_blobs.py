"""What every blob store must do. A new store is a new line in `STORES`."""

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread, current_thread
from uuid import uuid4

import pytest

from siftline.domain.errors import Unavailable
from siftline.settings import Settings
from siftline.store import blobs_local
from siftline.store.blobs import Blobs, dataset_prefix, image_key, thumbnail_key
from siftline.store.blobs_local import ASIDE, NO_SLASH, LocalBlobs
from siftline.store.blobs_s3 import S3Blobs
from tests.conftest import PATIENCE_S, free_port

STORES = ("local", "s3")


@pytest.fixture(params=STORES)
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    if request.param == "local":
        return LocalBlobs(tmp_path / "blobs")
    return S3Blobs(request.getfixturevalue("s3_settings"))


@pytest.fixture
def file(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(data: bytes) -> Path:
        path = tmp_path / uuid4().hex
        path.write_bytes(data)
        return path

    return write


def test_what_is_put_in_comes_out_and_the_source_is_gone(blobs: Blobs, file: Callable[[bytes], Path]) -> None:
    source = file(b"pixels")
    blobs.put("datasets/a/b", source)
    with blobs.open("datasets/a/b") as blob:
        assert blob.read() == b"pixels"
        blob.seek(2)
        assert blob.read() == b"xels"
    assert not source.exists()


def test_putting_again_replaces_and_a_reader_keeps_what_it_opened(
    blobs: Blobs, file: Callable[[bytes], Path]
) -> None:
    blobs.put("k", file(b"old"))
    with blobs.open("k") as reader:
        blobs.put("k", file(b"new"))
        assert reader.read() == b"old"
    with blobs.open("k") as blob:
        assert blob.read() == b"new"


def test_a_missing_blob_is_file_not_found(blobs: Blobs) -> None:
    with pytest.raises(FileNotFoundError):
        blobs.open("datasets/none/none")


def test_deleting_twice_is_fine(blobs: Blobs, file: Callable[[bytes], Path]) -> None:
    blobs.put("a/b/c", file(b"x"))
    blobs.delete("a/b/c")
    blobs.delete("a/b/c")
    with pytest.raises(FileNotFoundError):
        blobs.open("a/b/c")


def test_keys_are_those_below_the_prefix_in_order(blobs: Blobs, file: Callable[[bytes], Path]) -> None:
    one, two = uuid4(), uuid4()
    expected = [image_key(one, "aa"), image_key(one, "bb"), thumbnail_key(one, "aa")]
    for key in [*expected[::-1], image_key(two, "aa")]:
        blobs.put(key, file(b"x"))
    assert [blob.key for blob in blobs.listed(dataset_prefix(one))] == expected
    assert [blob.bytes for blob in blobs.listed(dataset_prefix(one))] == [1, 1, 1]
    assert list(blobs.listed(dataset_prefix(uuid4()))) == []


def test_keys_come_in_the_order_of_their_characters(blobs: Blobs, file: Callable[[bytes], Path]) -> None:
    keys = sorted(["a/b", "a/b.c", "a/b-c/d", "a/b/c-d", "a/b/c/d", "a/bc"][1:])
    for key in keys[::-1]:
        blobs.put(key, file(b"x"))
    assert [blob.key for blob in blobs.listed("a/")] == keys


def test_a_careful_delete_keeps_what_was_put_since(blobs: Blobs, file: Callable[[bytes], Path]) -> None:
    blobs.put("a/b", file(b"x"))
    (blob,) = blobs.listed("a/")
    assert abs((datetime.now(UTC) - blob.put_at).total_seconds()) < 60
    assert not blobs.delete("a/b", unless_put_after=blob.put_at - timedelta(seconds=1))
    with blobs.open("a/b") as kept:
        assert kept.read() == b"x"
    assert blobs.delete("a/b", unless_put_after=blob.put_at + timedelta(seconds=1))
    assert list(blobs.listed("a/")) == []
    assert not blobs.delete("a/b", unless_put_after=blob.put_at)


def test_the_age_of_a_blob_counts_from_its_putting(blobs: Blobs, file: Callable[[bytes], Path]) -> None:
    source = file(b"took a day to send")
    os.utime(source, (0, 0))
    blobs.put("a/b", source)
    (blob,) = blobs.listed("a/")
    assert blob.put_at.year > 2000


def test_what_a_killed_delete_laid_aside_comes_back(tmp_path: Path, file: Callable[[bytes], Path]) -> None:
    blobs = LocalBlobs(tmp_path / "blobs")
    for key in ("datasets/a/b", "datasets/a/c"):
        blobs.put(key, file(b"old"))
        aside = tmp_path / "blobs" / ASIDE / key.replace("/", NO_SLASH)
        aside.parent.mkdir(exist_ok=True)
        (tmp_path / "blobs" / key).rename(aside)
    blobs.put("datasets/a/c", file(b"new"))
    assert [blob.key for blob in blobs.listed("datasets/")] == ["datasets/a/b", "datasets/a/c"]
    with blobs.open("datasets/a/c") as blob:
        assert blob.read() == b"new"


def test_two_careful_deletes_of_one_key_do_not_take_what_was_put_between_them(
    tmp_path: Path, file: Callable[[bytes], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = LocalBlobs(tmp_path / "blobs")
    blobs.put("a/b", file(b"old"))
    os.utime(tmp_path / "blobs" / "a" / "b", (0, 0))
    limit, put_at = datetime(2000, 1, 1, tzinfo=UTC), blobs_local._put_at
    looked, go_on = Event(), Event()
    first = Thread(target=lambda: blobs.delete("a/b", unless_put_after=limit))

    def put_at_with_the_other_in_between(stat: os.stat_result) -> datetime:
        if current_thread() is first:
            looked.set()
            go_on.wait(PATIENCE_S)
        else:
            go_on.set()
            first.join()
        return put_at(stat)

    monkeypatch.setattr(blobs_local, "_put_at", put_at_with_the_other_in_between)
    first.start()
    assert looked.wait(PATIENCE_S)
    blobs.put("a/b", file(b"new"))
    assert not blobs.delete("a/b", unless_put_after=limit)
    with blobs.open("a/b") as blob:
        assert blob.read() == b"new"


def test_a_bucket_that_does_not_answer_is_unavailable(tmp_path: Path, file: Callable[[bytes], Path]) -> None:
    settings = Settings(s3_bucket="siftline", s3_endpoint=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(Unavailable):
        S3Blobs(settings).open("a/b")


@pytest.mark.parametrize(
    "endpoint", ["http://user@host", "http://host/path", "ftp://host", "http://h?x", "h"]
)
def test_an_endpoint_is_a_host_and_nothing_else(endpoint: str) -> None:
    with pytest.raises(ValueError, match="s3_endpoint"):
        Settings(s3_endpoint=endpoint)


@pytest.mark.parametrize(
    "key", ["", "/a", "a//b", "../a", "a/../../b", "a/.hidden", "a\0", "a/", "ü", "a b", "a\n"]
)
def test_a_key_that_could_lead_elsewhere_is_refused(
    blobs: Blobs, file: Callable[[bytes], Path], key: str
) -> None:
    source = file(b"x")
    for use in (lambda: blobs.put(key, source), lambda: blobs.open(key), lambda: blobs.delete(key)):
        with pytest.raises(ValueError, match="not a blob key"):
            use()
    assert source.exists()


class PutAtTheWrongMoment(type(Path())):  # type: ignore[misc]  # Python 3.11's Path is subclassed this way
    """A source whose first rename finds that the folder it goes to has just been removed."""

    disturbed = False

    def replace(self, target: str | os.PathLike[str]) -> Path:
        if not self.disturbed:
            PutAtTheWrongMoment.disturbed = True
            Path(target).parent.rmdir()
        return Path(super().replace(target))


def test_a_blob_is_put_although_the_last_one_beside_it_is_deleted_in_that_moment(
    tmp_path: Path, file: Callable[[bytes], Path]
) -> None:
    blobs = LocalBlobs(tmp_path / "blobs")
    blobs.put("a/b", PutAtTheWrongMoment(file(b"pixels")))
    assert PutAtTheWrongMoment.disturbed
    with blobs.open("a/b") as blob:
        assert blob.read() == b"pixels"
