"""A job's process as in production, but its work is what the job's params say: mostly to sleep and report."""

import errno
import os
import signal
import sys
import time
from pathlib import Path

from siftline.domain.errors import Unprocessable
from siftline.domain.jobs import JobKind
from siftline_workers.child import main
from siftline_workers.running import RunningJob

COMMAND = (str(Path(__file__).resolve()),)
SECRET = "postgresql://user:hunter2@host"  # noqa: S105 - stands for what an exception's text may give away


def work(job: RunningJob) -> None:
    """`does`: what kind of work; `seconds`: how long, or `until` this file is there, should it come first;
    `diary`: a file that gets a line per attempt; `speed`: 0 to tell of the same progress again and again.
    """
    with Path(job.params["diary"]).open("a") as diary:
        diary.write(f"{os.getpid()}\n")
    match job.params.get("does", "sleep"):
        case "sleep":
            sleep(job)
        case "sleep without a word":
            time.sleep(job.params["seconds"])
        case "refuse":
            raise Unprocessable("There is nothing to purify.")
        case "break":
            raise ValueError(SECRET)
        case "need memory":
            raise MemoryError
        case "need disk":
            raise OSError(errno.ENOSPC, "No space left on device")
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "forget to succeed":
            return
    job.succeed(lambda session: {"attempt": job.attempt})


def sleep(job: RunningJob) -> None:
    seconds, until = job.params["seconds"], job.params.get("until")
    start = time.monotonic()
    while (slept := time.monotonic() - start) < seconds and not (until and Path(until).exists()):
        job.report("sleeping", job.params.get("speed", 1) * slept / seconds)
        time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main(dict.fromkeys(JobKind, work)))
