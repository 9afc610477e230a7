"""Folders that other processes may be removing."""

from contextlib import suppress
from pathlib import Path

_TRIES = 100


def make_folder(folder: Path) -> None:
    """`mkdir -p` that holds while another process removes the same folders: pathlib looks twice and
    fails when one goes in between. OSError when something else stands there, or it cannot be made.
    """
    for _ in range(_TRIES - 1):
        with suppress(FileExistsError, FileNotFoundError):
            folder.mkdir(parents=True, exist_ok=True)
            return
    folder.mkdir(parents=True, exist_ok=True)
