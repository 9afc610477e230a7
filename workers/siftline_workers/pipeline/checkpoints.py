"""Finished pieces of a running job, under a content key: a killed worker loses only the piece in hand."""

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any
from uuid import uuid4
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from siftline.store.folders import make_folder

_KEPT_S = 7 * 24 * 3600

Arrays = dict[str, NDArray[Any]]


def content_key(parts: Mapping[str, object], items: Sequence[str]) -> str:
    """Name of the work that these options do on these images, whoever does it and whenever."""
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode())
    for item in items:
        digest.update(b"\0" + item.encode())
    return digest.hexdigest()[:32]


class Checkpoints:
    """Named bundles of arrays in `root/key`, each written whole or not at all."""

    def __init__(self, root: Path, key: str) -> None:
        """Also clears what ended runs left in `root`, after a week in which it may be of use."""
        self.folder = root / key
        self._used: set[str] = set()
        make_folder(self.folder)
        with suppress(FileNotFoundError):  # the same work has ended elsewhere just now
            os.utime(self.folder)  # reading is use, too
        for other in root.iterdir():
            with suppress(FileNotFoundError):  # other work, likewise
                if other != self.folder and time.time() - other.stat().st_mtime > _KEPT_S:
                    shutil.rmtree(other, ignore_errors=True)

    def once(self, name: str, compute: Callable[[], Mapping[str, NDArray[Any]]]) -> Arrays:
        """The arrays of `name`: read back if an earlier run finished them, else computed and kept."""
        kept = self.load(name)
        if kept is not None:
            return kept
        arrays = dict(compute())
        self.save(name, arrays)
        return arrays

    def load(self, name: str) -> Arrays | None:
        """What was saved under `name`; None if nothing was, or it is torn."""
        try:
            # Opened here, because numpy leaves a torn file open behind its error.
            with (self.folder / f"{name}.npz").open("rb") as file, np.load(file, allow_pickle=False) as kept:
                arrays = {key: kept[key] for key in kept.files}
        except FileNotFoundError:
            return None
        except (ValueError, OSError, BadZipFile, EOFError):
            # A disk that was full or lost power may leave a torn file behind; the piece is simply done again.
            return None
        self._used.add(name)
        return arrays

    def has(self, name: str) -> bool:
        """Whether `name` was saved, without reading it."""
        return (self.folder / f"{name}.npz").exists()

    def save(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Replaces what was saved under `name` before."""
        # Not by the process id: in two containers that share the folder it may be the same.
        unfinished = self.folder / f"{name}.{uuid4().hex}.tmp"
        self._used.add(name)
        while True:
            # Another run of the same work may have ended and cleared the folder, or does while this writes.
            make_folder(self.folder)
            try:
                with unfinished.open("wb") as file:
                    np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy types **kwds as its allow_pickle flag too
                    file.flush()
                    os.fsync(file.fileno())
                unfinished.replace(self.folder / f"{name}.npz")
            except FileNotFoundError:
                continue
            except BaseException:
                unfinished.unlink(missing_ok=True)  # a full disk must not be kept full by each attempt's half
                raise
            return

    def scratch(self) -> IO[bytes]:
        """A file without a name on the same disk: it is gone when it is closed, or with the process."""
        # Not in the folder, which another dataset's job may be removing.
        return tempfile.TemporaryFile(dir=self.folder.parent)

    def keep_used(self) -> None:
        """Remove what this process neither read nor saved. Whoever is still at it saves it anew."""
        with suppress(FileNotFoundError):  # another dataset's job removes the folder in this moment
            for path in self.folder.glob("*.*"):
                if path.suffix == ".tmp" or (path.suffix == ".npz" and path.stem not in self._used):
                    path.unlink(missing_ok=True)

    def clear(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
