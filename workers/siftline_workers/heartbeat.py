"""Tells the workers table that this process is there, whatever its jobs are doing."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.orm import Session, sessionmaker

from siftline.store import workers
from siftline.store.session import DATABASE_AWAY, transaction

log = logging.getLogger(__name__)


@contextmanager
def beating(sessions: sessionmaker[Session], worker_id: str, every_s: float) -> Iterator[None]:
    """Beat while inside; leave the table on the way out."""
    stop = threading.Event()
    thread = threading.Thread(target=_beat, args=(sessions, worker_id, every_s, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        try:
            with transaction(sessions) as session:
                workers.leave(session, worker_id)
        except DATABASE_AWAY:
            log.warning("worker %s left without saying so: the database is away", worker_id)


def _beat(sessions: sessionmaker[Session], worker_id: str, every_s: float, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            with transaction(sessions) as session:
                workers.beat(session, worker_id)
        except Exception as error:  # a missed beat must not end the heart
            log.warning("no heartbeat (%s)", type(error).__name__)
        stop.wait(every_s)
