"""A process whose scoring hangs says so, and ends when it is told to."""

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from siftline.scoring.network import Network
from siftline.settings import Settings
from tests.conftest import PATIENCE_S
from tests.integration.api.conftest import is_problem, png
from tests.integration.detecting import Ready, add_detector
from tests.integration.served import clean_environment

HANGING = (sys.executable, "-m", "tests.integration.api.hanging", "api", "--port", "0")
PNG = {"Content-Type": "image/png"}


def path_of(detector: Ready) -> str:
    return f"/detectors/{detector.id}/score"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_network_that_hangs_turns_the_process_red_until_it_comes_back(
    api_with: Callable[..., TestClient],
    sessions: sessionmaker[Session],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    detector = add_detector(sessions, tmp_path / "artifacts")
    api, wakes, run = api_with(score_patience_s=0.2), threading.Event(), Network.__call__

    def hang(network: Network, tile: Any) -> Any:
        wakes.wait()
        return run(network, tile)

    monkeypatch.setattr(Network, "__call__", hang)
    assert api.get("/healthz").status_code == 200
    answer = api.post(path_of(detector), content=png(1), headers=PNG)
    assert is_problem(answer, 503, "scoring-stands-still")
    assert int(answer.headers["Retry-After"]) > 0
    answer = api.get("/healthz")
    assert is_problem(answer, 503, "stands-still")
    assert "have not come back" in answer.json()["detail"]
    answer = api.get("/readyz?only=scoring")
    assert is_problem(answer, 503, "not-ready")
    assert [error["loc"] for error in answer.json()["errors"]] == [["scoring"]]
    assert "siftline_scoring_stuck_images 1.0" in api.get("/metrics").text
    wakes.set()
    deadline = time.monotonic() + PATIENCE_S
    while api.get("/healthz").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert api.get("/readyz?only=scoring").json()["checks"] == {"scoring": "ok"}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_process_whose_scoring_hangs_is_red_and_ends_on_sigterm(
    sessions: sessionmaker[Session], settings: Settings, tmp_path: Path
) -> None:
    detector, log = add_detector(sessions, tmp_path / "artifacts"), tmp_path / "log"
    environment = clean_environment(
        SIFTLINE_DATA_DIR=str(settings.data_dir),
        SIFTLINE_DATABASE_URL=settings.sqlalchemy_url,
        SIFTLINE_SCORE_PATIENCE_S="0.2",
        SIFTLINE_DRAIN_S="1",
    )
    with log.open("wb") as sink:
        process = subprocess.Popen(HANGING, stdout=sink, stderr=sink, env=environment)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not (found := re.search(r"Siftline is at (http://\S+) ", log.read_text())):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with httpx2.Client(base_url=found[1], timeout=PATIENCE_S) as client:
            assert client.get("/healthz").status_code == 200
            assert client.post(path_of(detector), content=png(1), headers=PNG).status_code == 503
            assert client.get("/healthz").status_code == 503
        assert "in hang" in log.read_text(), "where it stands"
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait()
