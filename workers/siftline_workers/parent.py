"""What the process of a job and the one that started it owe each other.

`python -m siftline_workers.parent PID (-m MODULE | FILE)` is that program, bound to the life of PID before
anything of it is loaded: were it still loading, or standing still there, it would outlive its parent.
"""

import ctypes
import os
import runpy
import signal
import sys
import threading
import time

PR_SET_PDEATHSIG = 1
WHERE_ARE_YOU = signal.SIGUSR2
"""A child that gets this writes to its log where each of its threads stands."""


def die_with(parent: int, with_signal: signal.Signals) -> None:
    """Send this process `with_signal` once `parent` is gone, `kill -9` included.

    On Linux the kernel does it when the parent *thread* that started us ends, so start children from a thread
    that waits for them.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, with_signal)
    else:
        threading.Thread(target=_watch, args=(parent, with_signal), daemon=True).start()
    if os.getppid() != parent:  # it died before we could ask
        os.kill(os.getpid(), with_signal)


def bound_to_us(*program: str) -> list[str]:
    """The command that runs `-m`, MODULE or FILE as a child that dies with this process."""
    return [sys.executable, "-m", __name__, str(os.getpid()), *program]


def main() -> None:
    _, parent, *program = sys.argv
    die_with(int(parent), signal.SIGKILL)
    sys.argv = program[-1:]
    if program[0] == "-m":
        runpy.run_module(program[1], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(program[0], run_name="__main__")


def _watch(parent: int, with_signal: signal.Signals) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os.kill(os.getpid(), with_signal)


if __name__ == "__main__":
    main()
