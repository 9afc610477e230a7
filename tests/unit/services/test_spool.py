"""The spool: what dead processes leave behind goes, what living ones hold stays."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from siftline.store.spool import Spool, clear_abandoned

HOLD = """
import sys, time
from pathlib import Path
from siftline.store.spool import Spool
spool = Spool(Path(sys.argv[1]))
spool.open()
with spool.folder() as folder:
    with folder.writer("a.png") as writer:
        writer.write(b"half an image")
        writer.close()
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def opened(root: Path) -> Iterator[Spool]:
    spool = Spool(root)
    spool.open()
    yield spool
    spool.close()


def files(root: Path) -> list[bytes]:
    return [
        p.read_bytes() for p in root.rglob("*") if p.is_file() and p.suffix != ".lock" and p.name != "guard"
    ]


def test_a_folder_and_its_files_are_gone_when_the_request_ends(tmp_path: Path) -> None:
    with opened(tmp_path) as spool, spool.folder() as folder, folder.writer("../../up.png") as writer:
        writer.write(b"ab")
        writer.write(memoryview(b"cd"))
        done = writer.close()
        assert done.path.read_bytes() == b"abcd"
        assert done.path.is_relative_to(tmp_path)
        assert (done.name, done.size, done.head) == ("../../up.png", 4, b"abcd")
        assert done.sha256.startswith("88d4266f")
    assert files(tmp_path) == []


def test_what_a_killed_process_left_is_cleared_but_not_while_it_lives(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    with holder.stdout:
        assert holder.stdout.readline() == b"held\n"
        with opened(tmp_path) as second:
            assert files(tmp_path) == [b"half an image"]
            holder.kill()
            holder.wait()
            with opened(tmp_path), second.folder() as folder, folder.writer("x") as writer:
                writer.write(b"still mine")
                writer.close()
                assert files(tmp_path) == [b"still mine"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["guard"]


def test_a_process_that_ends_while_others_look_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "listed, but gone.lock").symlink_to(tmp_path / "nowhere")
    with opened(tmp_path) as spool, spool.folder() as folder:
        assert clear_abandoned(tmp_path) == []
        assert folder.path.is_dir()


def test_a_discarded_file_is_hashed_and_not_kept(tmp_path: Path) -> None:
    with opened(tmp_path) as spool, spool.folder() as folder, folder.writer("a") as writer:
        writer.write(b"ab")
        writer.discard()
        writer.write(b"cd")
        done = writer.close()
        assert (done.size, done.sha256[:8]) == (4, "88d4266f")
        assert not done.path.exists()
