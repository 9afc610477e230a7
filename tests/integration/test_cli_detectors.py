"""Detectors from the command line: asked for, looked at, carried out, deleted."""

import fcntl
import json
import os
import pty
import struct
import subprocess
import termios
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.orm import Session, sessionmaker

from siftline import Client
from siftline.schemas import DatasetOptions, Detector
from siftline.store.session import make_engine, session_factory
from tests.conftest import PATIENCE_S
from tests.integration.api.reviewing import rank
from tests.integration.api.server import Server
from tests.integration.commands import run
from tests.integration.detecting import add_detector, edges_onnx
from tests.integration.served import SIFTLINE, clean_environment, some_images

KEY = "right"


@dataclass(frozen=True, slots=True)
class House:
    url: str
    sessions: sessionmaker[Session]
    folder: Path

    def ready(self) -> UUID:
        return add_detector(self.sessions, self.folder / "artifacts").id

    def run(self, *arguments: object, **more: Any) -> "CompletedProcess[str]":
        return run(*arguments, "--url", self.url, "--api-key", KEY, **more)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A guarded server without a worker: trainings stay in the queue."""
    folder = tmp_path_factory.mktemp("house")
    server = Server(folder / "data")
    server.changes["SIFTLINE_API_KEY"] = KEY
    server.start()
    engine = make_engine(server.settings.sqlalchemy_url)
    yield House(server.url, session_factory(engine), folder)
    engine.dispose()
    server.kill()


@pytest.fixture(scope="module")
def dataset(house: House) -> UUID:
    """A ranked dataset."""
    with Client(house.url, KEY) as client:
        sent = some_images(house.folder / "sent", range(12))
        made = client.upload("n", [sent], DatasetOptions(purify=False)).dataset
        images = [image.id for image in client.images(made.id)]
    rank(house.sessions, made.id, images, suspects=2)
    return made.id


def test_a_training_is_asked_for_with_its_options(house: House, dataset: UUID) -> None:
    options = ["--method", "cdd", "--max-steps", 10, "--target-fpr", 0.02, "-o", "aggregation=false"]
    answer = house.run("train", dataset, *options, "--name", "line 4", "--json")
    detector = Detector.model_validate_json(answer.stdout)
    assert answer.returncode == 0, answer.stderr
    assert (detector.name, detector.method, detector.state) == ("line 4", "cdd", "training")
    assert detector.options["aggregation"] is False
    assert (detector.options["max_steps"], detector.options["target_fpr"]) == (10, 0.02)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--target-fpr", 7], "target_fpr"),
        (["-o", "colour=blue"], "funad has no option colour: it has backbone, seed,"),
        (["-o", "aggregation"], "NAME=VALUE"),
        (["--method", "magic"], "magic"),
        (["--version", 9], "version"),
    ],
)
def test_a_wrong_option_is_a_usage_error_that_names_it(
    house: House, dataset: UUID, options: list[object], said: str
) -> None:
    answer = house.run("train", dataset, *options)
    assert answer.returncode == 2
    assert said in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_training_that_takes_too_long_is_exit_code_3_and_goes_on(house: House, dataset: UUID) -> None:
    answer = house.run("train", dataset, "--timeout", 0.1)
    assert answer.returncode == 3
    assert "was still queued" in answer.stderr
    job = answer.stdout.split()[3]
    assert json.loads(house.run("jobs", job, "--json").stdout)["state"] == "queued"
    cancelled = house.run("cancel", job, "--json")
    assert json.loads(cancelled.stdout)["state"] in ("cancelling", "cancelled")


def test_a_narrow_terminal_cuts_no_id_short(house: House, dataset: UUID) -> None:
    job = json.loads(house.run("train", dataset, "--json").stdout)["job"]["id"]
    ours, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    command = [*SIFTLINE, "jobs", "--last", "1", "--url", house.url, "--api-key", KEY]
    given = clean_environment(TERM="dumb")  # as editors and CI call theirs: rich takes it for 80 columns
    environment = {name: value for name, value in given.items() if name != "COLUMNS"}
    subprocess.run(command, stdout=terminal, check=True, timeout=PATIENCE_S, env=environment)
    os.close(terminal)
    shown = b""
    with suppress(OSError):  # at its end: what was written may come in pieces
        while piece := os.read(ours, 10_000):
            shown += piece
    os.close(ours)
    assert f"{job}  train  {dataset}" in shown.decode()


def test_detectors_are_listed_and_shown(house: House) -> None:
    detector = house.ready()
    for arguments in (["detectors"], ["detectors", "list"]):
        assert str(detector) in house.run(*arguments).stdout
    listed = json.loads(house.run("detectors", "list", "--last", 1, "--json").stdout)
    assert [found["id"] for found in listed] == [str(detector)]
    shown = house.run("detectors", "show", detector)
    assert "model.onnx" in shown.stdout
    assert "ready" in shown.stdout


def test_an_artifact_comes_as_it_was_written(house: House, tmp_path: Path) -> None:
    detector = house.ready()
    answer = house.run("detectors", "download", detector, "model.onnx", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert (tmp_path / "model.onnx").read_bytes() == edges_onnx()
    wrong = house.run("detectors", "download", detector, "weights", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "calibration.json, model.onnx" in wrong.stderr


def test_a_detector_is_deleted_when_that_is_meant(house: House) -> None:
    detector = house.ready()
    asked = house.run("detectors", "delete", detector)
    assert asked.returncode == 1
    assert house.run("detectors", "show", detector).returncode == 0
    assert house.run("detectors", "delete", detector, "--yes").returncode == 0
    assert house.run("detectors", "show", detector).returncode == 2


NONE = UUID(int=7)
EVERY_COMMAND: list[list[object]] = [
    ["upload", "."],
    ["purified", NONE],
    ["jobs"],
    ["cancel", NONE],
    ["review", "decide", NONE, "keep", NONE],
    ["review", "undo", NONE],
    ["review", "list", NONE],
    ["review", "recut", NONE],
    ["review", "miss", NONE, NONE],
    ["export", NONE, "x.csv"],
    ["train", NONE],
    ["score", NONE, "."],
    ["detectors"],
    ["detectors", "show", NONE],
    ["detectors", "download", NONE, "model.onnx"],
    ["detectors", "delete", NONE, "--yes"],
    ["key", "create", "ada"],
    ["key", "list"],
    ["key", "revoke", NONE],
]


def words(command: list[object]) -> str:
    return " ".join(word for word in command if isinstance(word, str))


@pytest.fixture
def one_image(tmp_path: Path) -> Path:
    return some_images(tmp_path / "one", range(1))


@pytest.mark.parametrize("command", EVERY_COMMAND, ids=words)
def test_every_command_says_that_the_server_is_away(
    command: list[object], one_image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("siftline.client.connection.LONGEST_PAUSE_S", 0.0)
    answer = run(*command, "--url", "http://127.0.0.1:9", cwd=one_image, XDG_CACHE_HOME=str(one_image / ".c"))
    assert answer.returncode == 3
    assert answer.stderr.splitlines()[-1].startswith("Error: No Siftline server answers")
    assert answer.stdout == ""


@pytest.mark.parametrize("command", EVERY_COMMAND, ids=words)
def test_every_command_says_that_the_key_is_wrong(
    house: House, command: list[object], one_image: Path
) -> None:
    where = ["--url", house.url, "--api-key", "wrong"]
    answer = run(*command, *where, cwd=one_image, XDG_CACHE_HOME=str(one_image / ".c"))
    assert answer.returncode == 2
    assert "API key" in answer.stderr
    assert answer.stdout == ""
