"""What a dataset needs no more goes, unless another one needs it."""

import sys
from pathlib import Path
from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from siftline.store import work
from siftline.store.work import Use

OURS, OTHERS = uuid7(), uuid7()


def noted(folder: Path, use: Use, *datasets: UUID) -> Path:
    for dataset_id in datasets:
        work.note(folder, use, dataset_id)
    folder.mkdir(exist_ok=True)
    (folder / "piece.npz").write_bytes(b"x")
    return folder


def test_a_basis_goes_when_a_later_one_has_landed_and_a_job_in_hand_keeps_its_own(tmp_path: Path) -> None:
    noted(tmp_path / "old", Use.BASIS, OURS)
    new, job = noted(tmp_path / "new", Use.BASIS, OURS), noted(tmp_path / "job", Use.JOB, OURS)
    work.let_go(tmp_path, OURS, use=Use.BASIS, but=new)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job", "new"]
    work.let_go(tmp_path, OURS)
    assert not new.exists()
    assert not job.exists()


def test_what_another_dataset_needs_stays_until_it_lets_it_go(tmp_path: Path) -> None:
    shared, network = noted(tmp_path / "shared", Use.BASIS, OURS, OTHERS), noted(tmp_path / "n", Use.JOB)
    assert work.owners(shared) == {OURS, OTHERS}
    work.let_go(tmp_path, OURS)
    assert work.owners(shared) == {OTHERS}
    assert (shared / "piece.npz").exists()
    work.let_go(tmp_path, OTHERS)
    assert not shared.exists()
    assert (network / "piece.npz").exists(), "what nobody noted is nobody's to remove"


class GoneBetweenTwoLooks(type(Path())):  # type: ignore[misc]  # 3.11's Path picks its own class for the system
    """There when pathlib asks, gone when it lists."""

    def is_dir(self) -> bool:
        found = bool(super().is_dir())
        if found:
            work.remove(Path(self))
        return found


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="later ones' glob passes over a folder that goes")
def test_a_folder_that_goes_while_it_is_looked_at_is_nobodys(tmp_path: Path) -> None:
    folder = noted(tmp_path / "a", Use.BASIS, OURS)
    assert work.owners(GoneBetweenTwoLooks(folder)) == set()
    assert not folder.exists()


def test_a_folder_that_was_removed_may_be_noted_again_and_removed_twice(tmp_path: Path) -> None:
    folder = noted(tmp_path / "a", Use.BASIS, OURS)
    work.remove(folder)
    work.remove(folder)
    assert list(tmp_path.iterdir()) == []
    work.note(folder, Use.BASIS, OURS)
    assert work.owners(folder) == {OURS}


def test_who_is_killed_while_letting_go_leaves_nothing_that_is_nobodys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = noted(tmp_path / "a", Use.BASIS, OURS)

    def killed(_folder: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(work, "remove", killed)
        with pytest.raises(KeyboardInterrupt):
            work.let_go(tmp_path, OURS)
    assert work.owners(folder) == {OURS}, "or garbage collection would keep it for a week"
    work.let_go(tmp_path, OURS)
    assert not folder.exists()
