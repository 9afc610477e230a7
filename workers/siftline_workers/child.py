"""The process of one job, which dies with its supervisor; its order is one JSON line on standard input.

Exit code 0 means the job's row says how it ended, or that somebody else's word counts. Anything else means
that this process failed at more than the job, and the supervisor decides.
"""

import errno
import faulthandler
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from uuid import UUID

from sqlalchemy.orm import Session, sessionmaker

from siftline.domain.errors import OutOfResources, SiftlineError, Unavailable
from siftline.domain.jobs import JobKind, Work
from siftline.logs import process_is_about, set_up_logging
from siftline.settings import Settings
from siftline.store import jobs
from siftline.store.parts import Part
from siftline.store.session import DATABASE_AWAY, KEPT_BY_WORKERS, make_engine, retrying, session_factory
from siftline_workers.parent import WHERE_ARE_YOU
from siftline_workers.running import DATABASE_PATIENCE_S, Cancelled, LostJob, RunningJob

log = logging.getLogger(__name__)

UNEXPECTED = SiftlineError("Something unexpected went wrong; the worker's log names this job and tells more.")

JobFunction = Callable[[RunningJob], None]


def purify(job: RunningJob) -> None:
    from siftline_workers.pipeline import purify as pipeline  # noqa: PLC0415 - torch only once it is needed

    pipeline.run(job)


def recut(job: RunningJob) -> None:
    from siftline_workers.pipeline import recut as pipeline  # noqa: PLC0415 - as above

    pipeline.run(job)


def similar(job: RunningJob) -> None:
    from siftline_workers.pipeline import similar as pipeline  # noqa: PLC0415 - as above

    pipeline.run(job)


def train(job: RunningJob) -> None:
    from siftline_workers.pipeline import train as pipeline  # noqa: PLC0415 - as above

    pipeline.run(job)


def score(job: RunningJob) -> None:
    from siftline_workers.pipeline import score as pipeline  # noqa: PLC0415 - as above

    pipeline.run(job)


def help_with(
    part: Part, worker_id: str, settings: Settings, sessions: sessionmaker[Session], stop: threading.Event
) -> None:
    """Not a job, but help with one that somebody else runs."""
    from siftline_workers.pipeline import helper as pipeline  # noqa: PLC0415 - as above

    pipeline.run(pipeline.Helper(part, worker_id, settings, sessions, stop))


JOBS: Mapping[JobKind, JobFunction] = {
    JobKind.PURIFY: purify,
    JobKind.RECUT: recut,
    JobKind.SIMILAR: similar,
    JobKind.TRAIN: train,
    JobKind.SCORE: score,
}


def main(functions: Mapping[JobKind, JobFunction] = JOBS) -> int:
    line = sys.stdin.readline()
    if not line:  # the supervisor died before it could tell us what to do
        return 1
    order = json.loads(line)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    # In C, so that it answers also when a thread never gives Python's lock back.
    faulthandler.register(WHERE_ARE_YOU, all_threads=True)
    settings = Settings.model_validate(order["settings"])
    set_up_logging(settings.log_format, settings.log_level)
    stand_back(settings.worker_nice)
    engine = make_engine(settings.sqlalchemy_url, kept=KEPT_BY_WORKERS)
    sessions = session_factory(engine)
    job_id = UUID(order["job_id"])
    row = retrying(sessions, lambda session: jobs.get(session, job_id), patience_s=DATABASE_PATIENCE_S)
    process_is_about(job_id=str(row.id), request_id=row.request_id)
    try:
        if "part" in order:
            work, start, end = order["part"]
            part = Part(job_id, Work(work), start, end)
            help_with(part, order["worker"], settings, sessions, stop)
        else:
            claim = jobs.Claim(job_id, order["owner"], order["attempt"])
            job = RunningJob(row, claim, settings, sessions, stop)
            perform(job, functions[job.kind])
    finally:
        engine.dispose()
    return 0


def stand_back(nice: int) -> None:
    """Let whoever waits for an answer have the processor first: a training can wait, CI cannot."""
    os.nice(nice)
    # Linux may share processors between sessions first, and within one by niceness; we are a session.
    with suppress(OSError):  # not every kernel does
        Path("/proc/self/autogroup").write_text(str(nice))


def perform(job: RunningJob, function: JobFunction) -> None:
    """Run the job's function and write down how it ended, except that a cancelled job is the supervisor's."""
    try:
        function(job)
    except (Cancelled, LostJob) as end:
        log.info("job %s: stopped (%s)", job.id, type(end).__name__)
    except (*DATABASE_AWAY, Unavailable):
        raise  # nothing is wrong with the job: the supervisor queues it again
    except SiftlineError as error:
        log.warning("job %s: %s: %s", job.id, error.code, error.detail)
        job.fail(error)
    except Exception as error:
        log.exception("job %s: failed", job.id)
        job.fail(what_to_say_of(error))
    else:
        if not job.ended:
            log.error("job %s: its function returned without succeed()", job.id)
            job.fail(UNEXPECTED)


def what_to_say_of(error: Exception) -> SiftlineError:
    """An exception's own text stays in the log: it was not written for users and may name secrets."""
    # torch has no common class for this: CUDA's is named so, the CPU allocator's is a plain RuntimeError.
    no_cuda_memory = type(error).__name__ == "OutOfMemoryError"
    no_torch_memory = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    if isinstance(error, MemoryError) or no_cuda_memory or no_torch_memory:
        return OutOfResources("The worker ran out of memory. A smaller dataset or backbone needs less.")
    # Libraries that write by themselves (safetensors) keep the system's words, but not its error.
    full = [os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT)]
    if any(words in str(error) for words in full):
        return OutOfResources(
            "The worker's disk is full. Free some space in the data folder and run it again."
        )
    return UNEXPECTED


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    # Taking torch and OpenVINO down in order takes seconds, and there is nothing left that needs it.
    os._exit(code)
