"""Errors are problems with a request id, strangers stay outside, readiness tells what is missing."""

import logging
import re
from collections.abc import Callable
from errno import ENOSPC
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy.orm import Session, sessionmaker

from siftline.main import create_app
from siftline.services import readiness
from siftline.settings import Settings
from siftline.store import workers
from siftline.store.blobs_local import LocalBlobs
from siftline.store.session import transaction
from siftline.store.spool import SpoolWriter
from tests.integration.api.conftest import (
    is_problem,
    made,
    open_client,
    png,
    spool_is_empty,
    upload,
)

Start = Callable[..., TestClient]
sqlite_only = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@sqlite_only
def test_an_unknown_path_is_a_problem(api: TestClient) -> None:
    assert is_problem(api.get("/nowhere"), 404, "not-found")
    assert is_problem(api.get("/datasets/"), 404, "not-found")
    assert is_problem(api.get("/datasets/no-uuid"), 422, "validation-error")


@sqlite_only
@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/datasets", "GET, POST"),
        ("PATCH", "/datasets/0190a0a0-0000-7000-8000-000000000000", "GET, DELETE"),
        ("GET", "/jobs/0190a0a0-0000-7000-8000-000000000000/cancel", "POST"),
        ("TRACE", "/healthz", "GET"),
    ],
)
def test_a_wrong_method_is_told_all_the_right_ones(
    api: TestClient, method: str, path: str, allowed: str
) -> None:
    answer = api.request(method, path)
    assert is_problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == allowed


@sqlite_only
def test_a_request_id_is_kept_if_it_is_sane_and_made_if_it_is_not(api: TestClient) -> None:
    assert (
        api.get("/healthz", headers={"X-Request-ID": "ci-7.build_3"}).headers["x-request-id"]
        == "ci-7.build_3"
    )
    for odd in ("a b", "x" * 65, "<script>"):
        made = api.get("/nowhere", headers={"X-Request-ID": odd}).headers["x-request-id"]
        assert made != odd
        assert len(made) == 32


@sqlite_only
def test_an_unforeseen_error_tells_the_log_and_nobody_else(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(settings)

    @app.get("/broken")
    def broken() -> None:
        raise RuntimeError("the password is 1234")

    with TestClient(app, base_url="http://localhost", client=("::1", 1)) as api:
        answer = api.get("/broken", headers={"X-Request-ID": "find-me"})
    assert is_problem(answer, 500, "internal-error")
    assert "1234" not in answer.text
    assert "find-me" in caplog.text
    assert "the password is 1234" in caplog.text


@sqlite_only
def test_a_full_disk_is_told_as_such_and_leaves_nothing(
    api: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: SpoolWriter, data: bytes) -> None:
        raise OSError(ENOSPC, "No space left on device")

    monkeypatch.setattr(SpoolWriter, "write", full)
    answer = upload(api, ("a.png", png(1)))
    assert is_problem(answer, 503, "storage-full")
    assert "retry-after" in answer.headers
    assert spool_is_empty(settings)


@sqlite_only
def test_a_body_that_is_no_upload_may_be_a_megabyte(api: TestClient) -> None:
    path = "/datasets/0190a0a0-0000-7000-8000-000000000000/purifications"
    kinds: tuple[Any, ...] = (b" " * 2_000_000, iter([b" " * 100_000] * 20))
    for body in kinds:
        answer = api.post(path, content=body, headers={"Content-Type": "application/json"})
        assert is_problem(answer, 413, "too-large")
    odd = api.post(path, content=b"", headers={"Content-Length": "9" * 5000})
    assert is_problem(odd, 413, "too-large")


@sqlite_only
def test_without_a_key_only_this_machine_is_served(settings: Settings) -> None:
    for host, client in (
        ("127.0.0.1", "10.0.0.9"),
        ("evil.example", "127.0.0.1"),
        ("127.0.0.1.evil.example", "127.0.0.1"),
        ("127.0.0.1", "testclient"),
    ):
        with open_client(settings, host, client) as api:
            assert is_problem(api.get("/datasets"), 403, "forbidden")
            assert is_problem(api.get("/openapi.json"), 403, "forbidden")
            assert api.get("/healthz").status_code == 200
    for host in ("localhost:8000", "[::1]", "127.0.0.1"):
        with open_client(settings, host, "::1") as api:
            assert api.get("/datasets").status_code == 200


@sqlite_only
def test_a_page_from_elsewhere_cannot_post_through_the_browser(api: TestClient) -> None:
    for origin in ("https://evil.example", "null", "http://[broken", "http://127.0.0.1:3000"):
        answer = upload(api, ("a.png", png(1)), headers={"Origin": origin})
        assert is_problem(answer, 403, "forbidden")
    assert upload(api, ("a.png", png(1)), headers={"Origin": "http://127.0.0.1"}).status_code == 202


@sqlite_only
def test_with_a_key_every_path_but_the_probes_asks_for_it(settings: Settings) -> None:
    keyed = settings.model_copy(update={"api_key": SecretStr("s3cret")})
    with open_client(keyed, "siftline.example", "10.0.0.9") as api:
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "Basic s3cret"},
            {"X-API-Key": "ü"},
        ):
            encoded = {name: value.encode("latin-1") for name, value in headers.items()}
            for path in ("/", "/datasets", "/docs", "/openapi.json", "/nowhere"):
                answer = api.get(path, headers=encoded)  # type: ignore[arg-type]  # bytes on purpose
                assert is_problem(answer, 401, "unauthorized")
                assert answer.headers["www-authenticate"] == "Bearer"
        assert api.get("/healthz").status_code == 200
        assert is_problem(api.get("/readyz"), 503, "not-ready")
        for headers in ({"Authorization": "bearer s3cret"}, {"X-API-Key": "s3cret"}):
            assert api.get("/datasets", headers=headers).status_code == 200


@sqlite_only
def test_the_manual_names_every_call_of_the_api_and_loads_nothing(api: TestClient) -> None:
    assert 'href="/docs"' in api.get("/").text
    manual = api.get("/docs").text
    document = api.get("/openapi.json").json()
    assert [path for path in document["paths"] if f"<code>{path}</code>" not in manual] == []
    assert [name for name in document["components"]["schemas"] if f'id="schema-{name}"' not in manual] == []
    assert set(re.findall(r'src="([^"]*)"', manual)) <= {"/static/js/theme.js", "/static/js/toast.js"}


@sqlite_only
def test_every_answer_says_what_a_browser_may_not_do_with_it(api: TestClient) -> None:
    body = made(api, ("a.png", png(1)), ("b.png", b"no image"))
    image = api.get(f"/datasets/{body['dataset']['id']}/images").json()["items"][0]
    answers = [
        upload(api, ("a.png", png(1)), headers={"Origin": "https://evil.example"}),
        *map(api.get, ("/datasets", "/nowhere", "/", "/docs", "/signin", "/openapi.json", "/healthz")),
        *map(api.get, (image["content_url"], image["thumbnail_url"], "/static/css/base.css")),
    ]
    for answer in answers:
        told = answer.headers
        policy = told["content-security-policy"]
        assert policy.startswith("default-src 'none'") or policy.startswith("default-src 'self'"), answer.url
        assert "unsafe" not in policy
        assert (told["x-content-type-options"], told["x-frame-options"]) == ("nosniff", "DENY")
        assert told["referrer-policy"] in ("same-origin", "no-referrer")
        assert told["cross-origin-resource-policy"] == "same-origin"
        assert told["cache-control"]
    assert api.get("/datasets").headers["cache-control"] == "no-store"


def test_ready_means_database_migrations_storage_and_a_worker(
    api: TestClient, sessions: sessionmaker[Session]
) -> None:
    answer = api.get("/readyz")
    assert is_problem(answer, 503, "not-ready")
    assert [e["loc"] for e in answer.json()["errors"]] == [["worker"]]
    with transaction(sessions) as session:
        workers.beat(session, "w")
    answer = api.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")
    looked_at = ("database", "migrations", "storage", "worker", "scoring")
    assert answer.json()["checks"] == dict.fromkeys(looked_at, "ok")


@sqlite_only
def test_a_storage_that_takes_nothing_is_not_filled_by_asking(
    sessions: sessionmaker[Session], settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "a file").touch()
    told = readiness.check(settings, sessions, LocalBlobs(tmp_path / "a file"), ["storage"])
    assert "cannot be written" in told["storage"]
    assert list(settings.spool_dir.iterdir()) == []


def test_a_database_that_nobody_migrated_is_not_ready(empty_database_url: str, tmp_path: Path) -> None:
    with open_client(Settings(data_dir=tmp_path / "d", database_url=empty_database_url)) as api:
        answer = api.get("/readyz")
    assert is_problem(answer, 503, "not-ready")
    told = {e["loc"][0]: e["msg"] for e in answer.json()["errors"]}
    assert "siftline migrate" in told["migrations"]


@sqlite_only
def test_a_broker_that_is_away_is_not_ready_and_uploads_are_still_taken(
    api_with: Start, caplog: pytest.LogCaptureFixture
) -> None:
    api = api_with(redis_url="redis://127.0.0.1:1/0")
    with caplog.at_level(logging.ERROR):
        assert upload(api, ("a.png", png(1))).status_code == 202
    missing = [e["loc"][0] for e in api.get("/readyz").json()["errors"]]
    assert missing == ["worker", "broker"]


def test_a_database_that_went_away_is_a_503_that_says_when_to_come_back(tmp_path: Path) -> None:
    away = Settings(data_dir=tmp_path, database_url="postgresql+psycopg://x@127.0.0.1:1/x")
    with open_client(away) as api:
        answer = api.get("/datasets")
        assert is_problem(answer, 503, "unavailable")
        assert answer.headers["retry-after"] == "5"
        assert is_problem(api.get("/readyz"), 503, "not-ready")
