"""A multipart/form-data body made from files on disk, read only while it is being sent.

httpx would open every file of a request at once: five thousand images are more than a process may hold open.
"""

import mimetypes
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

CHUNK_BYTES = 256 * 1024
OnProgress = Callable[[int, int | None], None]
"""Bytes so far, and of all; None when nobody knows yet."""


@dataclass(frozen=True, slots=True)
class FilePart:
    name: str
    content: Path | bytes
    size: int

    def chunks(self) -> Iterator[bytes]:
        """Raises OSError when the file is gone or has become shorter since it was listed."""
        if isinstance(self.content, bytes):
            yield self.content
            return
        left = self.size
        with self.content.open("rb") as file:
            while chunk := file.read(min(CHUNK_BYTES, left)):
                left -= len(chunk)
                yield chunk
        if left:
            raise OSError(f"{self.content} became shorter while it was being sent")


def find_files(paths: Iterable[Path]) -> list[FilePart]:
    """The files that `paths` name, folders walked in order of name.

    Hidden files inside folders are left out, folders that are linked there are not walked. A file inside a
    folder is named by its path below that folder. Raises FileNotFoundError, also for a link to nothing, and
    OSError for a folder that cannot be listed: what is in it would be passed over in silence.
    """
    parts: list[FilePart] = []
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist")
        for file in _walked(path) if path.is_dir() else [path]:
            if file.is_symlink() and not file.exists():
                raise FileNotFoundError(f"{file} is a link to a file that is not there")
            name = file.relative_to(path) if path.is_dir() else Path(file.name)
            parts.append(FilePart(legible(name), file, file.stat().st_size))
    return parts


def _walked(folder: Path) -> list[Path]:
    def refuse(error: OSError) -> None:
        raise error

    files: list[Path] = []
    for here, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [Path(here, name) for name in names if not name.startswith(".")]
    return sorted(file for file in files if file.is_file() or file.is_symlink())


def legible(path: Path) -> str:
    """The path as text. A name on disk may hold bytes that are no UTF-8; no request and no report can."""
    return os.fsencode(path.as_posix()).decode("utf-8", "replace")


def batched(files: Iterable[FilePart], most_files: int, most_bytes: int) -> Iterator[list[FilePart]]:
    """The files in order, as many at a time as both bounds allow; one that is too large goes alone."""
    batch: list[FilePart] = []
    size = 0
    for file in files:
        if batch and (len(batch) == most_files or size + file.size > most_bytes):
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += file.size
    if batch:
        yield batch


class MultipartBody:
    """Fields, then files, of one request. It can be sent again, byte for byte, after a dropped connection."""

    def __init__(
        self,
        fields: Mapping[str, str],
        files: Iterable[FilePart],
        on_progress: OnProgress | None = None,
    ) -> None:
        self._boundary = secrets.token_hex(16)
        self._fields = [(self._head(name) + value.encode() + b"\r\n") for name, value in fields.items()]
        self._files = [(self._head("files", part.name), part) for part in files]
        self._tail = f"--{self._boundary}--\r\n".encode()
        self._on_progress = on_progress

    @property
    def headers(self) -> dict[str, str]:
        return {
            "Content-Type": f"multipart/form-data; boundary={self._boundary}",
            "Content-Length": str(self.size),
        }

    @property
    def size(self) -> int:
        """Bytes of the whole body."""
        files = sum(len(head) + part.size + 2 for head, part in self._files)
        return sum(map(len, self._fields)) + files + len(self._tail)

    def __iter__(self) -> Iterator[bytes]:
        """The body in chunks. Raises OSError as `FilePart.chunks` does."""
        total, sent = self.size, 0
        for chunk in self._chunks():
            yield chunk
            sent += len(chunk)
            if self._on_progress:
                self._on_progress(sent, total)

    def _chunks(self) -> Iterator[bytes]:
        yield from self._fields
        for head, part in self._files:
            yield head
            yield from part.chunks()
            yield b"\r\n"
        yield self._tail

    def _head(self, field: str, filename: str | None = None) -> bytes:
        disposition = f'form-data; name="{field}"'
        lines = [f"--{self._boundary}"]
        if filename is None:
            lines.append(f"Content-Disposition: {disposition}")
        else:
            kind = mimetypes.guess_type(filename)[0] or "application/octet-stream"
            lines.append(f'Content-Disposition: {disposition}; filename="{_quoted(filename)}"')
            lines.append(f"Content-Type: {kind}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _quoted(name: str) -> str:
    """As browsers write a file name into a header (HTML standard, multipart/form-data encoding)."""
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
