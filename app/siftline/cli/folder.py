"""One data folder belongs to one process that starts workers on it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from siftline.domain.errors import Conflict


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Make the folder, and hold it. The kernel lets go when this process ends, however it ends.

    Raises Conflict when another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "serve.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise Conflict(
                f"Process {holder} already works in {folder.resolve()}. "
                "Stop it, or use another folder: --data-dir FOLDER"
            ) from error
        lock.seek(0)
        lock.truncate()
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield
