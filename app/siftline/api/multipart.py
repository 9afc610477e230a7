"""A multipart upload, straight from the socket to the spool: memory stays flat, the event loop stays free.

Starlette's own form parser writes every file twice and stops at 1,000 files.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from pydantic import BaseModel, ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from siftline.api.errors import InvalidFields, listed
from siftline.domain.errors import BadRequest, TooLarge
from siftline.schemas import DatasetFromSource, NewDataset
from siftline.services.archives import RefusedFile
from siftline.services.sources import file_limit
from siftline.settings import Settings
from siftline.store.spool import SpooledFile, SpoolFolder, SpoolWriter

BUFFER_BYTES = 1 << 20
FIELD_BYTES = 1 << 16
MAX_FIELDS = 20
BOUNDARY_BYTES = 70  # RFC 2046
FILES_FIELD = "files"
Model = TypeVar("Model", bound=BaseModel)


class Upload:
    """What a multipart request brought. `fingerprint` is the same whenever the same things are sent."""

    def __init__(self) -> None:
        self.fields: dict[str, str] = {}
        self.files: list[SpooledFile | RefusedFile] = []
        self._hash = hashlib.sha256()

    @property
    def fingerprint(self) -> str:
        return self._hash.hexdigest()

    def add_field(self, name: str, value: str) -> None:
        if name in self.fields:
            raise _invalid(name, "the field is there twice", "duplicate")
        self.fields[name] = value
        self._note("field", name, value)

    def add_file(self, file: SpooledFile | RefusedFile, sha256: str) -> None:
        self.files.append(file)
        self._note("file", file.name, sha256)

    def _note(self, *what: str) -> None:
        self._hash.update(json.dumps(what).encode() + b"\n")


class Receiver:
    """Feeds on chunks of the body, in any thread, and fills an `Upload`."""

    def __init__(self, boundary: bytes, folder: SpoolFolder, settings: Settings) -> None:
        self.upload = Upload()
        self._folder = folder
        self._settings = settings
        self._ended = False
        self._header: list[bytes] = [b"", b""]
        self._headers: dict[bytes, bytes] = {}
        self._field_name = ""
        self._value = bytearray()
        self._writer: SpoolWriter | None = None
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._headers.clear,
                "on_header_begin": self._begin_header,
                "on_header_field": self._header_name,
                "on_header_value": self._header_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._begin_part,
                "on_part_data": self._data,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )

    def feed(self, data: bytes) -> None:
        """Raises BadRequest, InvalidFields, TooLarge."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise BadRequest("The body is not well-formed multipart/form-data.") from error

    def finish(self, data: bytes) -> Upload:
        self.feed(data)
        if not self._ended:
            raise BadRequest("The upload was cut off: its closing boundary is missing.")
        return self.upload

    def abandon(self) -> None:
        if self._writer is not None:
            self._writer.__exit__(None, None, None)

    def _begin_header(self) -> None:
        self._header = [b"", b""]

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._header[0] += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1] += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._header[0].lower()] = self._header[1]

    def _begin_part(self) -> None:
        disposition = self._headers.get(b"content-disposition", b"").decode("latin-1")
        _, options = parse_options_header(disposition)
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if b"filename" not in options:
            if len(self.upload.fields) == MAX_FIELDS:
                raise _invalid(name, "there are too many fields", "too_many")
            self._field_name = name
            return
        if name != FILES_FIELD:
            raise _invalid(name, f"files are sent as `{FILES_FIELD}`", "extra_forbidden")
        if len(self.upload.files) == self._settings.max_entries:
            raise TooLarge(f"A request may bring at most {self._settings.max_entries} files.")
        self._writer = self._folder.writer(options[b"filename"].decode("utf-8", "replace"))

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._writer is None:
            self._value += data[start:end]
            if len(self._value) > FIELD_BYTES:
                raise TooLarge(f"A field that is no file may have at most {FIELD_BYTES} bytes.")
            return
        self._writer.write(memoryview(data)[start:end])
        if not self._writer.discarded and self._writer.size > file_limit(self._writer.head, self._settings):
            self._writer.discard()

    def _end_part(self) -> None:
        if self._writer is None:
            self.upload.add_field(self._field_name, self._value.decode("utf-8", "replace"))
            self._value.clear()
            return
        spooled, discarded = self._writer.close(), self._writer.discarded
        self._writer = None
        if discarded:
            reason = f"file-too-large: the file has more than {self._settings.max_file_bytes} bytes"
            self.upload.add_file(RefusedFile(spooled.name, reason, spooled.sha256), spooled.sha256)
        else:
            self.upload.add_file(spooled, spooled.sha256)

    def _end(self) -> None:
        self._ended = True


async def receive(request: Request, folder: SpoolFolder, settings: Settings) -> Upload:
    """Read the request's body into the spool.

    Raises BadRequest, InvalidFields, TooLarge, and ClientDisconnect when the client goes away.
    """
    _, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= BOUNDARY_BYTES:
        raise BadRequest(f"Content-Type must name a multipart boundary of 1 to {BOUNDARY_BYTES} bytes.")
    receiver = Receiver(boundary, folder, settings)
    one_at_a_time = CapacityLimiter(1)  # of our own: writing must not wait for requests that look things up
    buffer = bytearray()
    try:
        async for chunk in request.stream():
            buffer += chunk
            if len(buffer) >= BUFFER_BYTES:
                await to_thread.run_sync(receiver.feed, bytes(buffer), limiter=one_at_a_time)
                buffer.clear()
        return await to_thread.run_sync(receiver.finish, bytes(buffer), limiter=one_at_a_time)
    finally:
        receiver.abandon()


def new_dataset(fields: Mapping[str, str]) -> NewDataset:
    """Raises InvalidFields."""
    values: dict[str, object] = dict(fields)
    if "options" in values:
        values["options"] = _json(fields["options"])
    return _validated(NewDataset, values)


def dataset_from_source(body: bytes) -> DatasetFromSource:
    """Raises BadRequest, InvalidFields."""
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest("The body is not valid JSON.") from error
    return _validated(DatasetFromSource, values)


def _validated(kind: type[Model], values: object) -> Model:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        errors = [e | {"loc": ["body", *e["loc"]]} for e in listed(error.errors())]
        raise InvalidFields("See `errors` for the fields that do not fit.", errors=errors) from error


def refuse_fields(fields: Mapping[str, str]) -> None:
    for name in fields:
        raise _invalid(name, "the batch takes the options of its dataset", "extra_forbidden")


def require_files(upload: Upload) -> None:
    if not upload.files:
        raise _invalid(FILES_FIELD, "there is no file in the request", "missing")


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _invalid("options", "not valid JSON", "json_invalid") from error


def _invalid(field: str, message: str, kind: str) -> InvalidFields:
    errors = [{"loc": ["body", field], "msg": message, "type": kind}]
    return InvalidFields("See `errors` for the fields that do not fit.", errors=errors)
