"""Commands over the client, against a real server; and what each of them says when something is wrong."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from siftline.schemas import DatasetCreated
from tests.conftest import PATIENCE_S
from tests.integration.api.server import Server
from tests.integration.commands import run
from tests.integration.served import clean_environment, some_images


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three images, one of them twice."""
    folder = some_images(tmp_path / "images", range(3))
    shutil.copy(folder / "0.png", folder / "zero-again.png")
    return folder


@pytest.fixture
def more(tmp_path: Path) -> Path:
    return some_images(tmp_path / "more", range(2, 4))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("served") / "data")
    server.start()
    yield server
    server.kill()


def test_upload_says_what_became_of_every_file(served: Server, images: Path) -> None:
    (images / "notes.txt").write_text("no image")
    answer = run("upload", images, "--no-purify", "--url", served.url)
    assert answer.returncode == 0, answer.stderr
    assert "3 accepted, 1 exact duplicates, 1 refused" in answer.stderr
    assert "refused notes.txt: not-an-image" in answer.stderr
    assert answer.stdout.startswith("dataset ")


def test_upload_for_programs_prints_json_and_nothing_else(served: Server, images: Path) -> None:
    answer = run("upload", images, "--no-purify", "--json", "--name", "été", "--url", served.url)
    created = DatasetCreated.model_validate_json(answer.stdout)
    assert (created.dataset.name, created.dataset.images, created.job) == ("été", 3, None)


def test_another_batch_goes_into_the_dataset_it_names(served: Server, images: Path, more: Path) -> None:
    first = run("upload", images, "--no-purify", "--json", "--url", served.url)
    dataset = json.loads(first.stdout)["dataset"]["id"]
    second = run("upload", more, "--dataset", dataset, "--json", "--url", served.url)
    assert json.loads(second.stdout)["dataset"]["images"] == 4


def test_an_upload_of_which_nothing_is_an_image_fails(served: Server, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    answer = run("upload", tmp_path / "notes.txt", "--url", served.url)
    assert answer.returncode == 1
    assert "refused every file" in answer.stderr


def test_a_dataset_without_a_split_yet_says_so(served: Server, images: Path) -> None:
    first = run("upload", images, "--no-purify", "--json", "--url", served.url)
    answer = run("purified", json.loads(first.stdout)["dataset"]["id"], "--url", served.url)
    assert answer.returncode == 1
    assert "No purification of this dataset was asked for" in answer.stderr


@pytest.mark.parametrize("command", ["purified", "jobs", "cancel"])
def test_an_unknown_id_is_a_usage_error(served: Server, command: str) -> None:
    answer = run(command, uuid4(), "--url", served.url)
    assert answer.returncode == 2
    assert answer.stderr.startswith("Error: ")
    assert answer.stderr.count("\n") == 1


def test_a_path_that_does_not_exist_is_a_usage_error(tmp_path: Path) -> None:
    answer = run("upload", tmp_path / "nowhere")
    assert answer.returncode == 2
    assert "does not exist" in answer.stderr


def test_the_shell_completes_commands_and_what_belongs_to_them() -> None:
    words = {"COMP_CWORD": "1", "_SIFTLINE_COMPLETE": "complete_bash"}
    program = str(Path(sys.executable).with_name("siftline"))
    environment = clean_environment(COMP_WORDS="siftline re", **words)
    answer = subprocess.run(
        [program], env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert answer.stdout.split() == ["review"]


@pytest.mark.parametrize("arguments", [[], ["--help"], ["purify", "--help"], ["serve", "--help"]])
def test_help_exits_cleanly(arguments: list[str]) -> None:
    answer = run(*arguments)
    assert answer.returncode in (0, 2)
    assert "Usage:" in answer.stdout + answer.stderr


def test_an_upload_names_paths_or_a_source_that_the_server_may_refuse(served: Server, tmp_path: Path) -> None:
    source = ("--source", tmp_path.as_uri(), "--url", served.url)
    refused = run("upload", *source)
    assert refused.returncode == 2
    assert "SIFTLINE_SOURCE_ROOTS" in refused.stderr
    for odd in (("upload",), ("upload", tmp_path, *source)):
        assert "Give paths, or --source" in run(*odd).stderr
