"""What an `s3://` source names in the buckets that the operator allows."""

import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import partial

from siftline.domain.errors import Forbidden, Unprocessable
from siftline.services.archives import FileRejected, is_clutter
from siftline.services.sources import SourceFile
from siftline.settings import BUCKET, Settings
from siftline.store.source_bucket import Object, Replaced, SourceBucket

URI = re.compile(rf"s3://({BUCKET})/([^\x00-\x1f\x7f%?#\\]+)")
NO_PLACE = {"", ".", ".."}


@contextmanager
def opened(uri: str, settings: Settings) -> Iterator[Iterator[SourceFile]]:
    """The object that `uri` names, or those below it, by key; they can be read inside the `with`.

    Raises Forbidden, Unprocessable, Unavailable.
    """
    name, place = located(uri, settings)
    with SourceBucket(settings, name) as bucket:
        yield _found(bucket, place, settings, is_folder=uri.endswith("/"))


def located(uri: str, settings: Settings) -> tuple[str, str]:
    """Bucket and key, or folder without its last `/`. Whether it is there is not asked.

    Raises Unprocessable for what is no such name, Forbidden for what SIFTLINE_SOURCE_BUCKETS does not allow.
    """
    named = URI.fullmatch(uri)
    place = named[2].removesuffix("/") if named else ""
    if named is None or NO_PLACE.intersection(place.split("/")):
        raise Unprocessable(
            "A source in a bucket is s3://bucket/folder-or-object, as it is: no host, no percent-encoding, "
            "no empty or dotted folder."
        )
    allowed = (f"{folder.removesuffix('/')}/" for folder in settings.source_buckets)
    if not any(f"{named[1]}/{place}/".startswith(folder) for folder in allowed):
        raise Forbidden("The source is not in a bucket or folder that SIFTLINE_SOURCE_BUCKETS allows.")
    return named[1], place


def _found(bucket: SourceBucket, place: str, settings: Settings, *, is_folder: bool) -> Iterator[SourceFile]:
    if not is_folder and (one := bucket.find(place)) is not None:
        yield SourceFile(place.rpartition("/")[2], one.bytes, partial(_chunks_of, bucket, one))
        return
    folder, passed_over, is_there = f"{place}/", 0, False
    for found in bucket.listed(folder):
        is_there, name = True, found.key.removeprefix(folder)
        if name.endswith("/") or not name or is_clutter(name):  # some tools put an empty object for a folder
            passed_over += 1
            if passed_over > settings.max_entries:  # reading past a hundred million of them takes a day
                raise Unprocessable("The source holds too many folders and hidden files.")
            continue
        yield SourceFile(name, found.bytes, partial(_chunks_of, bucket, found))
    if not is_there:
        raise Unprocessable("The source does not exist.")


def _chunks_of(bucket: SourceBucket, found: Object) -> Generator[bytes]:
    # An HTTP client resolves dots in an address: it would ask for another object, perhaps another bucket's.
    if {".", ".."}.intersection(found.key.split("/")):
        raise FileRejected("unsafe-path", "the object's name has dots for a folder")
    try:
        yield from bucket.chunks(found)
    except FileNotFoundError as error:
        raise FileRejected("missing-object", "it was deleted while the source was being read") from error
    except PermissionError as error:
        raise FileRejected("unreadable-object", "the store does not hand it out") from error
    except Replaced as error:
        raise FileRejected(
            "changed-object", "it was replaced while the source was being read; send it again"
        ) from error
