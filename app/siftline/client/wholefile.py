"""Files that are there when they are whole, and otherwise not."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes its name when the block has ended well; folders above it are made.

    A device or a pipe is written as it is. Raises OSError, which names the file.
    """
    if path.exists() and not path.is_file():
        with _named(path, ""), path.open("wb") as file:
            yield file
        return
    path = path.resolve()  # what a link points to is replaced, not the link
    part = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}.part")
    try:
        with _named(path, ". Nothing was written there."):
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
    except BaseException:
        with suppress(OSError):  # what went wrong first is what the caller must hear of
            part.unlink()
        raise


@contextmanager
def _named(path: Path, outcome: str) -> Iterator[None]:
    """The system does not say which file a failed write was to."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, f"{error.strerror}{outcome}", str(path)) from error
