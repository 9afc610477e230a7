import os
import shutil
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from siftline_workers.pipeline.checkpoints import Arrays, Checkpoints, content_key
from siftline_workers.pipeline.stages import Stages


class Piece:
    """Counts how often it is computed."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> Arrays:
        self.times += 1
        return {"values": np.arange(3, dtype=np.float32), "rounds": np.array(self.times)}


def test_a_finished_piece_is_not_computed_again_by_the_next_process(tmp_path: Path) -> None:
    piece = Piece()
    first = Checkpoints(tmp_path, "key").once("piece", piece)
    again = Checkpoints(tmp_path, "key").once("piece", piece)
    assert piece.times == 1
    np.testing.assert_array_equal(first["values"], again["values"])
    assert first["values"].dtype == again["values"].dtype
    assert int(again["rounds"]) == 1


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04torn", None])
def test_a_torn_piece_is_computed_again(tmp_path: Path, damage: bytes | None) -> None:
    piece = Piece()
    Checkpoints(tmp_path, "key").once("piece", piece)
    file = tmp_path / "key" / "piece.npz"
    file.write_bytes(file.read_bytes()[:-40] if damage is None else damage)
    assert int(Checkpoints(tmp_path, "key").once("piece", piece)["rounds"]) == 2
    assert int(Checkpoints(tmp_path, "key").once("piece", piece)["rounds"]) == 2


def test_a_piece_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail() -> Arrays:
        raise KeyboardInterrupt

    checkpoints = Checkpoints(tmp_path, "key")
    with pytest.raises(KeyboardInterrupt):
        checkpoints.once("piece", fail)
    assert list(checkpoints.folder.iterdir()) == []


def test_other_work_is_kept_for_a_week(tmp_path: Path) -> None:
    for name, age_days in (("fresh", 6), ("old", 8)):
        Checkpoints(tmp_path, name).once("piece", Piece())
        then = time.time() - age_days * 24 * 3600
        os.utime(tmp_path / name, (then, then))
    Checkpoints(tmp_path, "key")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fresh", "key"]


def test_other_work_that_ends_while_it_is_looked_at_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "listed, but gone").symlink_to(tmp_path / "nowhere")
    Checkpoints(tmp_path, "key").once("piece", Piece())


def test_the_key_depends_on_options_and_images() -> None:
    keys = {
        content_key({"seed": seed}, images)
        for seed in (0, 1)
        for images in (["a", "b"], ["ab"], ["a"], ["a", "b", "c"])
    }
    assert len(keys) == 8
    assert content_key({"x": 1, "y": 2}, ["a"]) == content_key({"y": 2, "x": 1}, ["a"])


def test_progress_of_the_stages_adds_up_to_the_whole() -> None:
    told: list[tuple[str, float]] = []
    stages = Stages({"first": 1, "second": 3}, lambda stage, overall: told.append((stage, overall)))
    with stages.stage("first") as progress:
        progress(0.5)
    with stages.stage("second") as progress:
        progress(0.5)
        progress(7.0)
    assert told == [("first", 0.0), ("first", 0.125), ("second", 0.25), ("second", 0.625), ("second", 1.0)]
    assert set(stages.seconds) == {"first", "second"}


def test_a_run_that_ends_and_clears_up_does_not_disturb_another_of_the_same_work(tmp_path: Path) -> None:
    mine, theirs, over = Checkpoints(tmp_path, "key"), Checkpoints(tmp_path, "key"), threading.Event()

    def clear_again_and_again() -> None:
        # Without a pause no save would find the time that its write to the disk takes.
        while not over.wait(0.004):
            theirs.clear()

    clearing = threading.Thread(target=clear_again_and_again)
    clearing.start()
    try:
        for number in range(50):
            mine.save(f"part-{number}", {"x": np.arange(1000)})
    finally:
        over.set()
        clearing.join()
    mine.save("last", {"x": np.arange(3)})
    kept = mine.load("last")
    assert kept is not None
    assert kept["x"].tolist() == [0, 1, 2]


def test_what_a_run_did_not_use_goes_and_whoever_is_at_it_saves_it_anew(tmp_path: Path) -> None:
    for name in ("read", "not-read"):
        Checkpoints(tmp_path, "key").once(name, Piece())
    (tmp_path / "key" / "killed.0.tmp").write_bytes(b"half")
    (tmp_path / "key" / "basis.of-somebody").touch()
    run, other = Checkpoints(tmp_path, "key"), Checkpoints(tmp_path, "key")
    run.once("read", Piece())
    run.once("new", Piece())
    run.keep_used()
    assert sorted(path.name for path in run.folder.iterdir()) == [
        "basis.of-somebody",
        "new.npz",
        "read.npz",
    ]
    assert int(other.once("not-read", Piece())["rounds"]) == 1


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="later ones' glob passes over a folder that goes")
def test_a_folder_that_goes_while_its_rest_is_removed_is_no_error(tmp_path: Path) -> None:
    class GoneBetweenTwoLooks(type(Path())):  # type: ignore[misc]  # 3.11's Path picks its own class
        def is_dir(self) -> bool:
            found = bool(super().is_dir())
            shutil.rmtree(self, ignore_errors=True)
            return found

    run = Checkpoints(tmp_path, "key")
    run.once("read", Piece())
    run.folder = GoneBetweenTwoLooks(run.folder)
    run.keep_used()
    assert list(tmp_path.iterdir()) == []


def test_a_scratch_file_needs_no_folder(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "key")
    checkpoints.clear()
    with checkpoints.scratch() as file:
        file.write(b"on its way")
        assert list(tmp_path.iterdir()) == []


def test_a_piece_that_cannot_be_written_leaves_no_half_of_it(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "key")
    with pytest.raises(TypeError, match="pickle"):
        checkpoints.save("piece", {"whole": np.zeros(1000), "not": np.array([threading.Lock()])})
    assert list(checkpoints.folder.iterdir()) == []
