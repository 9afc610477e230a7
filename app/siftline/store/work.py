"""Whose the folders in `work_dir` are: an empty file in each names the dataset, and what it needs it for.

Folders are named by content, so datasets with the same images share them: what one needs no more another may
still need. A folder that nobody noted is nobody's (a compiled network, say); it goes when it is old. All of
it can be made again: who finds something gone does that work once more.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from uuid import UUID, uuid4

from siftline.store.folders import make_folder

GONE = "gone-"
"""A folder of such a name is being removed."""


class Use(StrEnum):
    BASIS = "basis"
    """Later versions of the dataset are built on it."""
    JOB = "job"
    """A job of the dataset goes on with it when it is tried again."""


def note(folder: Path, use: Use, dataset_id: UUID) -> None:
    """The dataset needs the folder, which is made if it is not there."""
    while True:
        make_folder(folder)
        with suppress(FileNotFoundError):  # it was removed in this moment
            (folder / f"{use}.{dataset_id}").touch()
            return


def owners(folder: Path) -> set[UUID]:
    """The datasets that need it; none when it is gone, or goes in this moment."""
    return {UUID(path.name.partition(".")[2]) for path in _notes(folder)}


def let_go(work_dir: Path, dataset_id: UUID, *, use: Use | None = None, but: Path | None = None) -> None:
    """The dataset needs no folder any more, for this `use` or for all, except `but`. What nobody else needs
    is gone at once.
    """
    for which in Use if use is None else (use,):
        for noted in list(work_dir.glob(f"*/{which}.{dataset_id}")):
            folder = noted.parent
            if folder == but:
                continue
            # The last note goes with the folder: one killed in between would leave what is nobody's.
            if _notes(folder) - {noted}:
                noted.unlink(missing_ok=True)
            if not _notes(folder) - {noted}:
                remove(folder)


def _notes(folder: Path) -> set[Path]:
    try:
        return {path for use in Use for path in folder.glob(f"{use}.*")}
    except FileNotFoundError:
        return set()


def remove(folder: Path) -> None:
    """Whole for whoever comes in the same moment, or not there."""
    gone = folder.with_name(f"{GONE}{uuid4().hex}")
    with suppress(FileNotFoundError):
        folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)
