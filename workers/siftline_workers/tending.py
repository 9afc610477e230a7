"""A worker looks after the caches of its machine: where folders are not shared, nobody else would keep them
small or remove what was made of datasets that are deleted.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from siftline import garbage
from siftline_workers.lifecycle import Supervisor

STOP_WITHIN_S = 1.0


@contextmanager
def tending(supervisor: Supervisor) -> Iterator[None]:
    """While inside, every `gc_s` seconds."""
    stop = threading.Event()
    what = (supervisor.sessions, supervisor.settings, None, stop)
    thread = threading.Thread(target=garbage.run_forever, args=what, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(STOP_WITHIN_S)  # whatever it is removing, the next one finds the rest
