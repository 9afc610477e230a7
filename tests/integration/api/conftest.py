"""The real application over a real database, called in-process."""

import io
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from siftline.main import create_app
from siftline.settings import Settings
from tests.integration.api.documented import DocumentedClient

LOOPBACK = ("127.0.0.1", 50000)
File = tuple[str, bytes]


def open_client(settings: Settings, host: str = "127.0.0.1", client: str = "127.0.0.1") -> TestClient:
    return DocumentedClient(
        create_app(settings),
        base_url=f"http://{host}",
        client=(client, 50000),
        raise_server_exceptions=False,
    )


@pytest.fixture
def api(settings: Settings) -> Iterator[TestClient]:
    with open_client(settings) as client:
        yield client


@pytest.fixture
def api_with(settings: Settings) -> Iterator[Callable[..., TestClient]]:
    """The application with some settings changed."""
    opened: list[TestClient] = []

    def start(**changes: Any) -> TestClient:
        client = open_client(settings.model_copy(update=changes))
        client.__enter__()
        opened.append(client)
        return client

    yield start
    for client in opened:
        client.__exit__(None, None, None)


def png(seed: int = 0, size: tuple[int, int] = (24, 16)) -> bytes:
    """A small grey image, another one for every seed."""
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0]), dtype=np.uint8)
    return encoded(Image.fromarray(pixels), "PNG")


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def zipped(*entries: File) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return buffer.getvalue()


def tarred(*entries: File, mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]  # mode is a str here
        for name, data in entries:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def upload(api: TestClient, *files: File, name: str = "line 4", **more: Any) -> Any:
    """The answer to POST /datasets, as it came."""
    parts = [("files", (file_name, data)) for file_name, data in files]
    return api.post("/datasets", data={"name": name, **more.pop("data", {})}, files=parts, **more)


def made(api: TestClient, *files: File, **more: Any) -> dict[str, Any]:
    """The body of a POST /datasets that went well."""
    answer = upload(api, *files, **more)
    assert answer.status_code == 202, answer.text
    body: dict[str, Any] = answer.json()
    return body


def statuses(body: dict[str, Any]) -> list[tuple[str, str, str | None]]:
    """(name, status, code of the reason) of every receipt."""
    return [
        (r["name"], r["status"], r["reason"].partition(":")[0] if r["reason"] else None)
        for r in body["receipts"]
    ]


def is_problem(answer: Any, status: int, code: str) -> bool:
    body = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"] == body["request_id"]
    assert (answer.status_code, body["status"], body["code"]) == (status, status, code), body
    assert body["title"]
    assert body["detail"]
    return True


def is_head_of(answer: Any, whole: Any) -> bool:
    """All of an answer but its body, as to a HEAD in the place of a GET."""
    of_request = {"x-request-id": ""}
    assert (answer.status_code, answer.content) == (whole.status_code, b"")
    assert dict(answer.headers) | of_request == dict(whole.headers) | of_request
    return True


def spool_is_empty(settings: Settings) -> bool:
    # os.walk, because rglob stumbles over a folder that goes while it looks.
    files = [name for _, _, names in os.walk(settings.spool_dir) for name in names]
    return not [name for name in files if not name.endswith(".lock") and name != "guard"]
