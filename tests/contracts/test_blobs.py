"""What every blob store must do. A new store is a new line in `STORES`."""

from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from siftline.store.blobs import Blobs, dataset_prefix, image_key, thumbnail_key
from siftline.store.blobs_local import LocalBlobs

STORES: dict[str, Callable[[Path], Blobs]] = {"local": lambda folder: LocalBlobs(folder / "blobs")}


@pytest.fixture(params=STORES)
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    return STORES[request.param](tmp_path)


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
    assert list(blobs.keys(dataset_prefix(one))) == expected
    assert list(blobs.keys(dataset_prefix(uuid4()))) == []


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
