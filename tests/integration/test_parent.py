"""A job's process and the one that started it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.programs import eventually, is_running

PARENT = """
import subprocess, sys
from siftline_workers.parent import bound_to_us
subprocess.Popen(bound_to_us(sys.argv[1])).wait()
"""
CHILD = """
import os, signal
print(os.getpid(), flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel does it on Linux only")
def test_a_process_that_stands_still_while_it_loads_dies_with_its_parent(tmp_path: Path) -> None:
    program = tmp_path / "child.py"
    program.write_text(CHILD)
    parent = subprocess.Popen([sys.executable, "-c", PARENT, program], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    with parent.stdout:
        child = int(parent.stdout.readline())
        eventually(lambda: Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T")
        parent.kill()
        parent.wait()
        eventually(lambda: not is_running(child))
