"""Patch grids of single images on disk, by image content and backbone fingerprint.

Two processes may write one entry at once and any of them may be killed on any line: an entry appears whole
by rename or not at all, and a damaged one counts as missing. At worst a kill leaves one `.part` file of one
image.
"""

from __future__ import annotations

import os
import re
import tempfile
import zlib
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from siftline.store.features import feature_path

_HEX = re.compile(r"[0-9a-f]{64}")
_CRC_BYTES = 4  # behind the .npy content, where np.load does not look

# Python 3.11's parser, which reads an .npy header, may raise SystemError in two threads at once (seen here).
_PARSING = Lock()


class FeatureCache:
    """`folder/<fingerprint>/<aa>/<sha256>.npy`: (rows, columns, D) float16 each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def load(self, fingerprint: str, sha256: str) -> NDArray[np.float16] | None:
        """The image's patch grid, or None when it is absent or damaged."""
        path = self._path(fingerprint, sha256)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        body, crc = content[:-_CRC_BYTES], content[-_CRC_BYTES:]
        if len(crc) < _CRC_BYTES or zlib.crc32(body) != int.from_bytes(crc, "little"):
            return None
        try:
            with _PARSING:
                grid = np.lib.format.read_array(BytesIO(body), allow_pickle=False)
        except ValueError:
            return None
        return grid if grid.ndim == 3 and grid.dtype == np.float16 else None

    def has(self, fingerprint: str, sha256: str) -> bool:
        """Whether there is an entry, without reading it: it may still turn out to be damaged."""
        return self._path(fingerprint, sha256).exists()

    def save(self, fingerprint: str, sha256: str, grid: NDArray[np.float16]) -> None:
        """Keep a (rows, columns, D) float16 grid. OSError when the disk is full or read-only."""
        path = self._path(fingerprint, sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        buffer = BytesIO()
        np.lib.format.write_array(buffer, np.ascontiguousarray(grid), allow_pickle=False)
        body = buffer.getvalue()
        handle, part = tempfile.mkstemp(dir=path.parent, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(body + zlib.crc32(body).to_bytes(_CRC_BYTES, "little"))
            with suppress(FileNotFoundError):  # removed from a cache that is over its size: a miss, no error
                Path(part).replace(path)
        except BaseException:
            Path(part).unlink(missing_ok=True)
            raise

    def _path(self, fingerprint: str, sha256: str) -> Path:
        if not _HEX.fullmatch(sha256):
            raise ValueError(f"not a sha256 in hex: {sha256!r}")
        return feature_path(self.folder, fingerprint, sha256)
