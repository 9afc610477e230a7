"""The network `lite`, converted once for all processes of a test run: each conversion takes eight seconds."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Lend = Callable[[Path], None]
CONVERT = """
import sys
from pathlib import Path
from siftline.settings import Settings
from siftline_workers.pipeline.dataset_images import named_backbone

named_backbone("lite", Settings(data_dir=Path(sys.argv[1])))
"""


@pytest.fixture(scope="session")
def lend_network(tmp_path_factory: pytest.TempPathFactory) -> Lend:
    """Puts the network where workers with this data folder keep it, as after their first job."""
    ours = tmp_path_factory.getbasetemp()
    kept = (ours.parent if "PYTEST_XDIST_WORKER" in os.environ else ours) / "converted"
    kept.mkdir(exist_ok=True)
    with (kept / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (kept / "work").exists():
            subprocess.run([sys.executable, "-c", CONVERT, str(kept)], check=True)

    def lend(data_dir: Path) -> None:
        shutil.copytree(kept / "work", data_dir / "work", copy_function=os.link, dirs_exist_ok=True)

    return lend
