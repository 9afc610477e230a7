"""Commands over the client, against a real server; and what each of them says when something is wrong."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from siftline.schemas import DatasetCreated
from tests.integration.served import Served, serve, siftline, some_images

NOBODY = "http://127.0.0.1:9"


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
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(tmp_path_factory.mktemp("served") / "data") as running:
        yield running


def test_upload_says_what_became_of_every_file(served: Served, images: Path) -> None:
    (images / "notes.txt").write_text("no image")
    answer = siftline("upload", images, "--no-purify", "--url", served.url)
    assert answer.returncode == 0, answer.stderr
    assert "3 accepted, 1 exact duplicates, 1 refused" in answer.stderr
    assert "refused notes.txt: not-an-image" in answer.stderr
    assert answer.stdout.startswith("dataset ")


def test_upload_for_programs_prints_json_and_nothing_else(served: Served, images: Path) -> None:
    answer = siftline("upload", images, "--no-purify", "--json", "--name", "été", "--url", served.url)
    created = DatasetCreated.model_validate_json(answer.stdout)
    assert (created.dataset.name, created.dataset.images, created.job) == ("été", 3, None)


def test_another_batch_goes_into_the_dataset_it_names(served: Served, images: Path, more: Path) -> None:
    first = siftline("upload", images, "--no-purify", "--json", "--url", served.url)
    dataset = json.loads(first.stdout)["dataset"]["id"]
    second = siftline("upload", more, "--dataset", dataset, "--json", "--url", served.url)
    assert json.loads(second.stdout)["dataset"]["images"] == 4


def test_an_upload_of_which_nothing_is_an_image_fails(served: Served, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    answer = siftline("upload", tmp_path / "notes.txt", "--url", served.url)
    assert answer.returncode == 1
    assert "refused every file" in answer.stderr


def test_a_dataset_without_a_split_yet_says_so(served: Served, images: Path) -> None:
    first = siftline("upload", images, "--no-purify", "--json", "--url", served.url)
    answer = siftline("purified", json.loads(first.stdout)["dataset"]["id"], "--url", served.url)
    assert answer.returncode == 1
    assert "No purification of this dataset was asked for" in answer.stderr


@pytest.mark.parametrize("command", ["purified", "jobs", "cancel"])
def test_an_unknown_id_is_a_usage_error(served: Served, command: str) -> None:
    answer = siftline(command, uuid4(), "--url", served.url)
    assert answer.returncode == 2
    assert answer.stderr.startswith("Error: ")
    assert answer.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["purified", "jobs", "cancel"])
def test_a_server_that_is_away_is_exit_code_3(command: str) -> None:
    answer = siftline(command, uuid4(), "--url", NOBODY)
    assert answer.returncode == 3
    assert "No Siftline server answers at http://127.0.0.1:9" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_path_that_does_not_exist_is_a_usage_error(tmp_path: Path) -> None:
    answer = siftline("upload", tmp_path / "nowhere")
    assert answer.returncode == 2
    assert "does not exist" in answer.stderr


def test_the_key_must_be_the_server_s(tmp_path: Path) -> None:
    with serve(tmp_path / "data", SIFTLINE_API_KEY="right") as guarded:
        wrong = siftline("jobs", "--url", guarded.url, "--api-key", "wrong")
        none = siftline("jobs", "--url", guarded.url)
        right = siftline("jobs", "--url", guarded.url, SIFTLINE_API_KEY="right")
    assert (wrong.returncode, none.returncode, right.returncode) == (2, 2, 0)
    assert "API key" in wrong.stderr


def test_jobs_says_what_to_do_when_there_are_none(tmp_path: Path) -> None:
    with serve(tmp_path / "data") as empty:
        answer = siftline("jobs", "--url", empty.url)
    assert answer.returncode == 0
    assert "There are no jobs yet" in answer.stderr


@pytest.mark.parametrize("arguments", [[], ["--help"], ["purify", "--help"], ["serve", "--help"]])
def test_help_is_quick_to_load_and_exits_cleanly(arguments: list[str]) -> None:
    answer = siftline(*arguments)
    assert answer.returncode in (0, 2)
    assert "Usage:" in answer.stdout + answer.stderr
