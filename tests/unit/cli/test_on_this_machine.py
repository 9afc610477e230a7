"""What the command line does by itself: its folder, its worker, its name in the log, what it refuses."""

import os
import threading
from pathlib import Path
from uuid import uuid4

import pytest

from siftline.cli import supervisor
from siftline.cli.inprocess import _settings_of
from siftline.cli.supervisor import Supervisor
from siftline.settings import Settings
from tests.conftest import PATIENCE_S
from tests.integration.commands import run


def test_a_purification_here_touches_nothing_that_a_server_keeps_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIFTLINE_DATABASE_URL", "postgresql+psycopg://db/siftline")
    monkeypatch.setenv("SIFTLINE_REDIS_URL", "redis://broker/0")
    monkeypatch.setenv("SIFTLINE_S3_BUCKET", "all-images")
    here = _settings_of(tmp_path)
    assert (here.database_url, here.redis_url, here.s3_bucket) == (None, None, None)
    assert here.blobs_dir.is_relative_to(tmp_path)


def test_a_worker_that_cannot_be_started_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, has_started = tmp_path / "worker", threading.Event()
    told: list[str] = []

    def hear(message: str) -> None:
        told.append(message)
        if "ended with code 7" in message:
            has_started.set()
        elif not program.exists():  # there is room for it now
            program.write_text("#!/bin/sh\nexit 7\n")
            program.chmod(0o755)

    monkeypatch.setattr(supervisor, "say", hear)
    monkeypatch.setattr(supervisor, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(supervisor, "worker_command", lambda _: [str(program)])
    with Supervisor(Settings(data_dir=tmp_path)):
        assert has_started.wait(PATIENCE_S)
    assert "could not be started: No such file" in told[0]


def test_a_user_without_a_name_makes_the_first_key_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 3_000_000_001)
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    made = run("key", "create", "me", "--role", "admin", "--local", "--data-dir", tmp_path / "data")
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith("sl_")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("jobs", "--follow"), "Name the job"),
        (("export", uuid4(), "a.html", "--verdict", "clean"), "leave --verdict out"),
    ],
)
def test_what_would_have_no_effect_is_a_usage_error(words: tuple[object, ...], told: str) -> None:
    answer = run(*words, "--url", "http://127.0.0.1:9")
    assert answer.returncode == 2
    assert told in answer.stderr
