"""Tells the workers table that this process is there, whatever its jobs are doing."""

import logging
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from siftline.store import workers
from siftline.store.session import DATABASE_AWAY, transaction
from siftline.store.workers import Capacity
from siftline_workers.lifecycle import Supervisor

log = logging.getLogger(__name__)

CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


@contextmanager
def beating(supervisor: Supervisor) -> Iterator[None]:
    """Beat while inside, three times in the time of a lease; leave the table on the way out."""
    stop = threading.Event()
    thread = threading.Thread(target=_beat, args=(supervisor, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        try:
            with transaction(supervisor.sessions) as session:
                workers.leave(session, supervisor.worker_id)
        except DATABASE_AWAY:
            log.warning("worker %s left without saying so: the database is away", supervisor.worker_id)


def _beat(supervisor: Supervisor, stop: threading.Event) -> None:
    settings = supervisor.settings
    while not stop.is_set():
        try:
            capacity = Capacity(settings.lanes, memory_bytes(), disk_free_bytes(settings.data_dir))
            with transaction(supervisor.sessions) as session:
                workers.beat(session, supervisor.worker_id, capacity)
        except Exception as error:  # a missed beat must not end the heart
            log.warning("no heartbeat (%s)", type(error).__name__)
        stop.wait(settings.lease_s / 3)


def memory_bytes() -> int | None:
    """What a job may use here: the container's limit where there is one, else the machine's memory."""
    try:
        machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None
    limits = [machine]
    for path in CGROUP_LIMITS:
        with suppress(OSError, ValueError):  # no such file, or "max"
            limits.append(int(path.read_text()))
    return min(limits)


def disk_free_bytes(data_dir: Path) -> int | None:
    """For caches and checkpoints; None while the folder cannot be looked at."""
    try:
        return shutil.disk_usage(data_dir).free
    except OSError:
        return None
