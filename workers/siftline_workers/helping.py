"""What a worker does when no job is waiting: a part of one that another worker runs.

There is nothing to keep or to settle (see `siftline.store.parts`): a helper that dies was of less help.
"""

import logging
import signal
import subprocess
import threading
import time
from collections.abc import Collection

from siftline.domain.jobs import Lane
from siftline.store import jobs, parts
from siftline.store.parts import Part
from siftline.store.session import DATABASE_AWAY, reading, transaction
from siftline_workers.lifecycle import Child, Supervisor, kill

log = logging.getLogger(__name__)


def help_next(supervisor: Supervisor, lanes: Collection[Lane], stop: threading.Event) -> bool:
    """Do a part of a running job of these lanes, and then others like it; False when nobody wants help.

    Leaves off when `stop` is set, when the job wants no more help, and when a job of these lanes is waiting:
    that one counts more.
    """
    with reading(supervisor.sessions) as session:
        part = parts.next_free(session, lanes)
    if part is None or stop.is_set():
        return False
    with transaction(supervisor.sessions) as session:
        if not parts.take(session, part, supervisor.worker_id):
            return True  # another was faster: look again
    _see_through(supervisor, part, lanes, stop)
    return True


def _see_through(supervisor: Supervisor, part: Part, lanes: Collection[Lane], stop: threading.Event) -> None:
    log.info("job %s: helping with %s, part %d to %d", part.job_id, part.work, part.start, part.stop)
    asked_at: float | None = None
    order = {"part": [part.work, part.start, part.stop], "worker": supervisor.worker_id}
    with supervisor.start(part.job_id, **order) as child:
        try:
            while not _ended(child, supervisor.settings.poll_s):
                if asked_at is None and (stop.is_set() or _is_over(supervisor, part, lanes)):
                    asked_at = time.monotonic()
                    child.send_signal(signal.SIGTERM)
                elif asked_at and time.monotonic() - asked_at > supervisor.settings.cancel_grace_s:
                    kill(child)
        finally:
            kill(child)


def _ended(child: Child, within_s: float) -> bool:
    try:
        child.wait(within_s)
    except subprocess.TimeoutExpired:
        return False
    return True


def _is_over(supervisor: Supervisor, part: Part, lanes: Collection[Lane]) -> bool:
    """The helper looks, too; this is for one that stands still."""
    try:
        with reading(supervisor.sessions) as session:
            return jobs.next_queued(session, lanes) is not None or not parts.is_wanted(session, part)
    except DATABASE_AWAY:
        return False
