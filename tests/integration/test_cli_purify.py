"""`siftline purify`: the whole job in one command, in real processes with the real backbone."""

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from siftline import Client
from siftline.schemas import Purified
from tests.conftest import PATIENCE_S
from tests.integration.commands import run
from tests.integration.served import SIFTLINE, clean_environment, serve, siftline, some_images
from tests.networks import Lend

IMAGES = 24


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of one thing under changing light; number 5 has a scratch."""
    folder = tmp_path_factory.mktemp("parts")
    rows, columns = np.mgrid[:96, :96]
    for number in range(IMAGES):
        rng = np.random.default_rng(number)
        grey = 128 + 60 * np.sin(rows / 6) * np.cos(columns / 9) + rng.normal(0, 6, (96, 96))
        if number == 5:
            grey[abs(rows - columns) < 4] = 255
        Image.fromarray(grey.clip(0, 255).astype(np.uint8)).save(folder / f"part-{number:02}.png")
    return folder


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory, lend_network: Lend) -> Path:
    folder = tmp_path_factory.mktemp("purified") / "data"
    lend_network(folder)
    return folder


@pytest.fixture(scope="module")
def split(parts: Path, data_dir: Path) -> Purified:
    """What purifying `parts` says; with `--json -` there is nothing else on standard output."""
    answer = siftline("purify", parts, "--data-dir", data_dir, "--json", "-")
    assert answer.returncode == 0, answer.stderr
    assert f"{IMAGES} accepted" in answer.stderr
    return Purified.model_validate_json(answer.stdout)


def test_every_image_is_ranked_once_and_counted_on_one_side(split: Purified) -> None:
    assert [item.rank for item in split.items] == list(range(1, IMAGES + 1))
    assert [item.score for item in split.items] == sorted((item.score for item in split.items), reverse=True)
    assert split.counts.clean + split.counts.suspect == IMAGES
    assert split.items[0].name == "part-05.png"


def test_a_folder_without_an_image_fails_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    answer = run("purify", tmp_path)
    assert answer.returncode == 1
    assert "refused notes.txt" in answer.stderr
    assert "no image to purify" in answer.stderr


def test_an_unknown_backbone_is_a_usage_error_that_names_the_known_ones(tmp_path: Path) -> None:
    answer = run("purify", some_images(tmp_path, range(3)), "--backbone", "resnet-9000")
    assert answer.returncode == 2
    assert "lite" in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Programs started from a shell's background ignore Ctrl-C, and hand that on to what they start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt_another_run(parts: Path, *options: str, **more: str) -> None:
    """Ctrl-C ends it at once."""
    command, environment = [*SIFTLINE, "purify", str(parts), *options], clean_environment(**more)
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stderr is not None
        while "running" not in (line := process.stderr.readline()):
            assert line, "it ended before it began"
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(PATIENCE_S) == 130
    assert "Traceback" not in rest


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_leaves_nothing_of_a_folder_that_was_only_for_the_run(parts: Path, tmp_path: Path) -> None:
    interrupt_another_run(parts, TMPDIR=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("interruptible")
def test_a_server_on_the_same_folder_gives_the_same_answer_and_goes_on_with_what_ctrl_c_ended(
    split: Purified, parts: Path, data_dir: Path
) -> None:
    interrupt_another_run(parts, "--data-dir", str(data_dir))
    with serve(data_dir) as served, Client(served.url) as client:
        job = next(client.jobs())
        assert job.dataset_id != split.dataset_id
        assert client.purified(split.dataset_id) == split
        pages = list(client.purified_pages(split.dataset_id, page=7))
        assert [item for page in pages for item in page.items] == split.items
        assert client.purified(split.dataset_id, limit=3).items == split.items[:3]
        shown = run("purified", split.dataset_id, "--top", 2, "--url", served.url)
        run("purified", split.dataset_id, "--json", data_dir / "split.json", "--url", served.url)
        heat = client.image_file(split.items[0].image_id, "heatmap")
        assert client.wait(job, timeout_s=PATIENCE_S).state == "succeeded"
    assert "part-05.png" in shown.stdout
    assert "contamination" in shown.stdout
    assert Purified.model_validate_json((data_dir / "split.json").read_text()) == split
    assert heat.startswith(b"\x89PNG")
