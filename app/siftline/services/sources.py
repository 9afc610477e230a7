"""What `source.uri` names on the server's own disks."""

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from siftline.domain.errors import Forbidden, Unprocessable
from siftline.services.archives import FileRejected, RefusedFile, is_clutter, kind_of
from siftline.settings import Settings
from siftline.store.spool import HEAD_BYTES, SpooledFile, SpoolFolder

COPY_BYTES = 1 << 20


def resolve(uri: str, settings: Settings) -> Path:
    """The file or folder a `file://` URI names, links followed.

    Raises Forbidden unless it is below one of the source roots, Unprocessable if it is not there.
    """
    parts = urlsplit(uri)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost") or "\0" in unquote(parts.path):
        raise Unprocessable("A source is a file:///… URI without a host.")
    path = Path(unquote(parts.path)).resolve()
    # Asked first: whether a file outside the roots exists is nobody's business.
    if not _is_below_roots(path, settings):
        raise Forbidden("The source is not below a folder that SIFTLINE_SOURCE_ROOTS allows.")
    if not path.exists():
        raise Unprocessable("The source does not exist.")
    return path


def _is_below_roots(path: Path, settings: Settings) -> bool:
    return any(path.is_relative_to(root.resolve()) for root in settings.source_roots)


def copy(source: Path, folder: SpoolFolder, settings: Settings) -> Iterator[SpooledFile | RefusedFile]:
    """Each file of `source` in order of name, copied into the spool, or why it was not.

    Raises Unprocessable when there are more files than a request may bring.
    """
    for number, path in enumerate(_files(source)):
        if number == settings.max_entries:
            raise Unprocessable(f"The source holds more than {settings.max_entries} files.")
        name = path.name if path == source else path.relative_to(source).as_posix()
        try:
            yield _copy_one(name, path, folder, settings)
        except FileRejected as rejected:
            yield RefusedFile(name, str(rejected))


def _files(source: Path) -> Iterator[Path]:
    if not source.is_dir():
        yield source
        return
    for parent, folders, names in os.walk(source):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            if not is_clutter(path.relative_to(source).as_posix()):
                yield path


def _copy_one(name: str, path: Path, folder: SpoolFolder, settings: Settings) -> SpooledFile:
    real = path.resolve()
    if not _is_below_roots(real, settings):
        raise FileRejected("unsafe-path", "the link leads out of the source roots")
    if not real.is_file():
        raise FileRejected("not-a-file", "only plain files are read")
    try:
        file = real.open("rb")
    except OSError as error:
        raise FileRejected("unreadable-file", "the server may not read the file") from error
    with file, folder.writer(name) as writer:
        limit = file_limit(file.peek(HEAD_BYTES)[:HEAD_BYTES], settings)
        while chunk := file.read(COPY_BYTES):
            writer.write(chunk)
            if writer.size > limit:
                writer.discard()
                raise FileRejected("file-too-large", f"the file has more than {limit} bytes")
        return writer.close()


def file_limit(head: bytes, settings: Settings) -> int:
    """How many bytes a file beginning with `head` may have: archives may be larger than single images."""
    return settings.max_request_bytes if kind_of(head) else settings.max_file_bytes
