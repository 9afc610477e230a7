"""Keys and passwords stand in no log, no answer and no message, whatever goes wrong."""

import logging
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]  # it ships no types
from fastapi.testclient import TestClient
from pydantic import SecretStr, ValidationError

from siftline.main import create_app
from siftline.settings import Settings
from siftline.store.session import make_engine
from tests.integration.api.conftest import open_client, png, upload
from tests.integration.api.walking import bearer, make_key
from tests.integration.commands import run

PASSWORD = "hunter2-of-the-database"  # noqa: S105 - nobody's
AWAY = f"postgresql+psycopg://siftline:{PASSWORD}@127.0.0.1:1/x"
ROOT = Path(__file__).parents[3]
MASTER = "the-key-in-the-settings"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_no_key_and_no_password_is_logged(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("sqlalchemy").setLevel(logging.NOTSET)
    keyed = settings.model_copy(update={"api_key": SecretStr(MASTER)})
    with open_client(keyed) as api:
        key = make_key(api, "anna", "admin", headers=bearer(MASTER))
        assert api.get("/datasets", headers=bearer(key)).status_code == 200
        assert api.get("/datasets", headers={"X-API-Key": key + "x"}).status_code == 401
        assert upload(api, ("a.png", png(1)), headers=bearer(key)).status_code == 202
        answer = api.post("/signin", data={"key": key}, follow_redirects=False)
        cookie = answer.cookies["siftline_session"]
        api.app.state.parts.keyring._sessions = None  # type: ignore[attr-defined]  # what nobody foresaw
        api.app.state.parts.keyring.forget()  # type: ignore[attr-defined]  # TestClient types any app
        assert api.get("/datasets", headers=bearer(key)).status_code == 500
    assert "failed" in caplog.text
    said = caplog.text + str([vars(record) for record in caplog.records])
    assert [secret for secret in (key, MASTER, cookie) if secret in said] == []


def test_a_database_that_is_away_is_logged_and_told_without_its_password(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    away = Settings(data_dir=tmp_path, database_url=AWAY, redis_url=f"redis://:{PASSWORD}@127.0.0.1:1/0")
    with open_client(away) as api:
        told = [api.get(path).text for path in ("/datasets", "/readyz", "/")]
    assert "Connection refused" in caplog.text
    assert PASSWORD not in caplog.text + "".join(told) + repr(away) + repr(make_engine(AWAY).url)
    for command in (("migrate",), ("key", "list", "--local")):
        answer = run(*command, SIFTLINE_DATABASE_URL=AWAY, SIFTLINE_DATA_DIR=str(tmp_path))
        assert answer.returncode != 0, command
        assert PASSWORD not in answer.stdout + answer.stderr, command


@pytest.mark.parametrize("name", ["SIFTLINE_API_KEY", "SIFTLINE_SECRET"])
@pytest.mark.parametrize("blank", ["", " ", "\n"])
def test_no_server_starts_with_a_blank_key_which_an_empty_header_would_show(name: str, blank: str) -> None:
    answer = run("api", "--port", "0", cwd=None, **{name: blank})
    assert answer.returncode == 2
    assert f"{name}: " in answer.stderr
    assert "set, but empty" in answer.stderr


@pytest.mark.parametrize("name", ["SIFTLINE_API_KEY", "SIFTLINE_SECRET"])
def test_no_server_starts_with_the_placeholder_of_the_example_which_anybody_can_read(name: str) -> None:
    example = yaml.safe_load_all((ROOT / "deploy/k8s/secret.example.yaml").read_text())
    [placeholder] = {secret["stringData"][name] for secret in example if name in secret["stringData"]}
    answer = run("api", "--port", "0", cwd=None, **{name: f"{placeholder}\n"})
    assert answer.returncode == 2
    assert f"{name}: " in answer.stderr
    assert "placeholder" in answer.stderr


def test_a_key_whose_file_ends_in_a_line_end_is_the_key_without_it() -> None:
    with_line_end = Settings(api_key=SecretStr(f"{MASTER}\n"))
    assert with_line_end.api_key is not None
    assert with_line_end.api_key.get_secret_value() == MASTER


def test_a_setting_that_is_refused_is_named_without_its_value() -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(database_url=f"mysql://root:{PASSWORD}@db/x")
    assert "database_url" in str(refused.value)
    assert PASSWORD not in str(refused.value)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_no_key_may_travel_in_an_address(settings: Settings) -> None:
    """Addresses end up in logs, histories and referrers."""
    api: TestClient
    with open_client(settings.model_copy(update={"api_key": SecretStr(MASTER)})) as api:
        for name in ("key", "api_key", "access_token", "token"):
            assert api.get("/datasets", params={name: MASTER}).status_code == 401


@contextmanager
def no_room() -> Iterator[None]:
    """Every write to a file fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_only_the_first_start_needs_room_for_the_cookies_secret(settings: Settings) -> None:
    with no_room(), pytest.raises(OSError, match="too large"):
        create_app(settings)
    assert not list(settings.data_dir.glob("cookie-secret*"))
    create_app(settings)
    with no_room():
        create_app(settings)
    assert len(list(settings.data_dir.glob("cookie-secret*"))) == 1
