"""Folders stay makeable while somebody else removes them."""

import os
import shutil
from pathlib import Path

import pytest

from siftline.store.blobs_local import ASIDE, LocalBlobs
from siftline.store.folders import make_folder


class GoneBetweenTwoLooks(type(Path())):  # type: ignore[misc]  # 3.11's Path picks its own class for the system
    """There when it is made, gone when pathlib asks whether that was a folder."""

    looks = 0

    def is_dir(self) -> bool:
        GoneBetweenTwoLooks.looks += 1
        if GoneBetweenTwoLooks.looks == 1:
            self.rmdir()
        return bool(super().is_dir())


def test_a_folder_is_made_although_another_process_removes_it_in_that_moment(tmp_path: Path) -> None:
    folder = GoneBetweenTwoLooks(tmp_path / "work")
    Path(folder).mkdir()
    make_folder(folder)
    assert GoneBetweenTwoLooks.looks > 0
    assert Path(folder).is_dir()


def test_a_file_where_the_folder_should_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "work").write_bytes(b"")
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "work")


def test_a_blob_a_delete_spared_is_put_back_although_its_folder_goes_in_that_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = LocalBlobs(tmp_path / "blobs")
    spared = tmp_path / "blobs" / ASIDE / "a,b"
    spared.parent.mkdir(parents=True)
    spared.write_bytes(b"pixels")
    link, tries = os.link, 0

    def link_in_the_wrong_moment(source: Path, target: Path) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            shutil.rmtree(target.parent)
        link(source, target)

    monkeypatch.setattr(os, "link", link_in_the_wrong_moment)
    assert [blob.key for blob in blobs.listed("a/")] == ["a/b"]
    assert tries == 2
    with blobs.open("a/b") as blob:
        assert blob.read() == b"pixels"


def test_a_blobs_name_is_on_the_disk_before_its_row_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "upload").write_bytes(b"pixels")
    fsync, kept = os.fsync, []

    def watched(handle: int) -> None:
        if os.path.samestat(os.fstat(handle), (tmp_path / "blobs" / "a").stat()):
            kept.append([path.name for path in (tmp_path / "blobs" / "a").iterdir()])
        fsync(handle)

    (tmp_path / "blobs" / "a").mkdir(parents=True)
    monkeypatch.setattr(os, "fsync", watched)
    LocalBlobs(tmp_path / "blobs").put("a/b", tmp_path / "upload")
    assert kept == [["b"]]


def test_a_blob_that_is_deleted_before_its_name_is_kept_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs, replace = LocalBlobs(tmp_path / "blobs"), Path.replace
    (tmp_path / "upload").write_bytes(b"pixels")

    def replace_and_lose(self: Path, target: Path) -> Path:
        there = replace(self, target)
        assert blobs.delete("a/b")
        return there

    monkeypatch.setattr(Path, "replace", replace_and_lose)
    blobs.put("a/b", tmp_path / "upload")
    assert list(blobs.listed("a/")) == []
