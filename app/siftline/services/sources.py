"""What `source.uri` names, on the server's own disks or in a bucket: found first, then copied into the spool.

From there on it goes the way of an upload: the same archives, verification, receipts and limits.
"""

import os
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import chain, islice
from pathlib import Path
from urllib.parse import unquote, urlsplit

from siftline.domain.errors import Forbidden, InsufficientStorage, Unprocessable
from siftline.services.ahead import in_order
from siftline.services.archives import FileRejected, RefusedFile, is_clutter, kind_of
from siftline.settings import GIB, Settings
from siftline.store.spool import HEAD_BYTES, SpooledFile, SpoolFolder

COPY_BYTES = 1 << 20
COPIED_AT_ONCE = 8
"""A bucket takes tens of milliseconds for the first byte of each object."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that was found and is not read yet. `chunks` raises FileRejected."""

    name: str
    size: int
    chunks: Callable[[], Generator[bytes]]


def read(uri: str, folder: SpoolFolder, settings: Settings) -> Iterator[SpooledFile | RefusedFile]:
    """Each file of what `uri` names, copied into the spool, or why it was not.

    Raises Forbidden for what the settings do not allow, Unprocessable for what is not there or too much,
    InsufficientStorage when the disk has no room for it, Unavailable when a bucket does not answer.
    """
    if not uri.startswith("s3://"):
        yield from copied(files(_resolved(uri, settings), settings), folder, settings)
        return
    if find_spec("boto3") is None:
        raise Unprocessable("This server cannot read buckets: it was installed without the extra `s3`.")
    from siftline.services.source_objects import opened  # noqa: PLC0415 - an extra

    with opened(uri, settings) as objects:
        yield from copied(objects, folder, settings)


def copied(
    files: Iterable[SourceFile], folder: SpoolFolder, settings: Settings
) -> Iterator[SpooledFile | RefusedFile]:
    """Each file, in the order given, copied into the spool, or why it was not.

    Nothing is read before it is known to fit. Raises Unprocessable, InsufficientStorage.
    """
    found = list(islice(files, settings.max_entries + 1))
    if len(found) > settings.max_entries:
        raise Unprocessable(f"The source holds more than {settings.max_entries} files.")
    total = sum(file.size for file in found)
    if total > settings.max_source_bytes:
        raise Unprocessable(
            f"The source holds {total} bytes, and at most {settings.max_source_bytes} are read of one."
        )
    if total > (free := shutil.disk_usage(folder.path).free):
        raise InsufficientStorage(
            f"The source holds {total / GIB:.1f} GiB, and the server has {free / GIB:.1f} GiB free."
        )
    copy = partial(_copy, folder=folder, settings=settings)
    with ThreadPoolExecutor(COPIED_AT_ONCE) as threads:
        yield from in_order(threads, copy, found, ahead=COPIED_AT_ONCE)


def _copy(file: SourceFile, folder: SpoolFolder, settings: Settings) -> SpooledFile | RefusedFile:
    try:
        with closing(file.chunks()) as chunks:
            first = next(chunks, b"")
            limit = file_limit(first[:HEAD_BYTES], settings)
            if file.size > limit:
                raise _too_large(limit)
            with folder.writer(file.name) as writer:
                for chunk in chain([first], chunks):
                    writer.write(chunk)
                    if writer.size > limit:  # it grew
                        writer.discard()
                        raise _too_large(limit)
                return writer.close()
    except FileRejected as rejected:
        return RefusedFile(file.name, str(rejected))


def _too_large(limit: int) -> FileRejected:
    return FileRejected("file-too-large", f"the file has more than {limit} bytes")


def file_limit(head: bytes, settings: Settings) -> int:
    """How many bytes a file beginning with `head` may have: archives may be larger than single images."""
    return settings.max_request_bytes if kind_of(head) else settings.max_file_bytes


def _resolved(uri: str, settings: Settings) -> Path:
    """The file or folder a `file://` URI names, links followed."""
    parts = urlsplit(uri)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost") or "\0" in unquote(parts.path):
        raise Unprocessable("A source is a file:///… URI without a host, or s3://bucket/….")
    path = _followed(Path(unquote(parts.path)))
    # Asked first: whether a file outside the roots exists is nobody's business.
    if not _may_be_read(path, settings):
        raise Forbidden("The source is not below a folder that SIFTLINE_SOURCE_ROOTS allows.")
    if not os.path.exists(path):  # noqa: PTH110 - Path.exists raises for a name that is too long
        raise Unprocessable("The source does not exist.")
    return path


def _followed(path: Path) -> Path:
    """Where its links lead; `path` itself when they lead in a circle."""
    try:
        return path.resolve()
    except RuntimeError:
        return path.parent.resolve() / path.name


def _may_be_read(path: Path, settings: Settings) -> bool:
    """Below a root, but never where the images of all workspaces lie."""
    ours = (settings.blobs_dir, settings.spool_dir)
    return not _is_below(path, ours) and _is_below(path, settings.source_roots)


def _is_below(path: Path, folders: Iterable[Path]) -> bool:
    return any(path.is_relative_to(folder.resolve()) for folder in folders)


def files(source: Path, settings: Settings) -> Iterator[SourceFile]:
    """`source`, or what is below it, in order of name; what leads out of the source roots is rejected."""
    for path in _walked(source):
        name = path.name if path == source else path.relative_to(source).as_posix()
        yield SourceFile(name, _size_of(path, settings), partial(_chunks_of, path, settings))


def _walked(source: Path) -> Iterator[Path]:
    """With the folders that cannot be looked into: nothing is passed over without a word."""
    if not source.is_dir():
        yield source
        return
    closed: list[Path] = []
    for parent, folders, names in os.walk(source, onerror=lambda error: closed.append(Path(error.filename))):
        folders.sort()
        links = [name for name in folders if Path(parent, name).is_symlink()]
        for path in (*closed, *(Path(parent, name) for name in sorted([*names, *links]))):
            if not is_clutter(path.relative_to(source).as_posix()):
                yield path
        closed.clear()
    yield from closed


def _size_of(path: Path, settings: Settings) -> int:
    try:
        return _file_behind(path, settings).stat().st_size
    except (FileRejected, OSError):
        return 0  # reading it will tell


def _file_behind(path: Path, settings: Settings) -> Path:
    real = _followed(path)
    if not _may_be_read(real, settings):
        raise FileRejected("unsafe-path", "it leads out of the source roots")
    if path.is_dir():
        raise FileRejected("unread-folder", "the server may not look into it, or it is a link")
    if not real.is_file():
        raise FileRejected("not-a-file", "only plain files are read")
    return real


def _chunks_of(path: Path, settings: Settings) -> Generator[bytes]:
    real = _file_behind(path, settings)
    try:
        file = real.open("rb")
    except OSError as error:
        raise FileRejected("unreadable-file", "the server may not read the file") from error
    with file:
        while chunk := file.read(COPY_BYTES):
            yield chunk
