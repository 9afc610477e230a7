"""The first tiles of a process may come to several threads at once."""

import subprocess
import sys

PROGRAM = """
import sys, threading
sys.setswitchinterval(1e-6)
from siftline.scoring import network
threads = 6
all_there = threading.Barrier(threads)
def first_tile():
    all_there.wait()
    network._core()
    sys.modules["openvino"].Type.u8.to_dtype()  # what every inference asks first
running = [threading.Thread(target=first_tile, daemon=True) for _ in range(threads)]
for thread in running:
    thread.start()
for thread in running:
    thread.join()
"""


def test_threads_that_come_first_together_do_not_wait_for_each_other_for_ever() -> None:
    """Before OpenVINO was made ready under a lock, six such processes of ten stood still (measured)."""
    programs = [subprocess.Popen([sys.executable, "-c", PROGRAM]) for _ in range(4)]
    try:
        assert [program.wait(120) for program in programs] == [0] * len(programs)
    finally:
        for program in programs:
            program.kill()
            program.wait()
