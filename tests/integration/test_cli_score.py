"""`siftline score` as a pipeline's gate, against a real server and a real network."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any
from uuid import UUID, uuid4
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import yaml  # type: ignore[import-untyped]  # it ships no types
from PIL import Image

from siftline import Client
from siftline.cli.gate import GateReport
from siftline.store.session import make_engine, session_factory
from tests.integration.api.server import Server
from tests.integration.commands import run
from tests.integration.detecting import add_detector, add_untrained, calibration_json
from tests.integration.scripted import Script, problem, scripted
from tests.integration.served import clean_environment, siftline

DOCS = Path(__file__).parents[2] / "docs" / "ci"
NAMES = ("fine.png", "odd.png", "bad.png")


@dataclass(frozen=True, slots=True)
class Line:
    """A server, an image per verdict, a detector that tells them apart, and one that is not trained."""

    url: str
    folder: Path
    detector: UUID
    untrained: UUID

    def score(self, *arguments: object, detector: UUID | None = None, **more: str) -> "CompletedProcess[str]":
        return run("score", detector or self.detector, *arguments, "--url", self.url, cwd=self.folder, **more)


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    folder = tmp_path_factory.mktemp("line")
    server = Server(folder / "data")
    server.start()
    engine = make_engine(server.settings.sqlalchemy_url)
    sessions = session_factory(engine)
    images = folder / "images"
    images.mkdir()
    for seed in range(3):
        pixels = np.random.default_rng(seed).integers(0, 80 * (seed + 1), (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(images / f"{seed}.png")
    try:
        plain = add_detector(sessions, folder / "artifacts").id
        with Client(server.url) as client:
            scores = [client.score(plain, [images / f"{seed}.png"]).items[0].score for seed in range(3)]
        order = np.argsort(scores)
        for seed, name in zip(order, NAMES, strict=True):
            (images / f"{seed}.png").rename(images / name)
        low, middle, high = np.sort(scores)
        bounds: dict[str, Any] = {
            "review_threshold": float(low + middle) / 2,
            "threshold": float(middle + high) / 2,
        }
        card = json.loads(calibration_json())["card"] | bounds
        detector = add_detector(sessions, folder / "artifacts", card=card, **bounds).id
        yield Line(server.url, folder, detector, add_untrained(sessions).id)
    finally:
        engine.dispose()
        server.kill()


def test_without_a_gate_every_verdict_passes(line: Line) -> None:
    answer = line.score("images")
    assert answer.returncode == 0, answer.stderr
    assert "3 images scored by edges: 1 ok, 1 review, 1 defect" in answer.stderr
    assert [row.split()[0] for row in answer.stdout.splitlines()[1:]] == ["defect", "review", "ok"]


@pytest.mark.parametrize(
    ("fail_on", "names", "code"),
    [
        ("defect", ["fine.png"], 0),
        ("defect", ["fine.png", "odd.png"], 0),
        ("defect", ["fine.png", "bad.png"], 1),
        ("review", ["fine.png"], 0),
        ("review", ["odd.png"], 1),
        ("review", ["bad.png"], 1),
    ],
)
def test_the_gate_fails_on_what_it_was_told_to(line: Line, fail_on: str, names: list[str], code: int) -> None:
    answer = line.score(*(f"images/{name}" for name in names), "--fail-on", fail_on)
    assert answer.returncode == code, answer.stderr
    assert ("failed the gate" in answer.stderr) == (code == 1)


def test_a_real_process_ends_with_the_gate_s_code(line: Line) -> None:
    images = line.folder / "images"
    answer = siftline("score", line.detector, images, "--fail-on", "defect", "--url", line.url)
    assert answer.returncode == 1
    assert "1 of 3 images failed the gate (--fail-on defect)" in answer.stderr


@pytest.fixture
def broken(line: Line) -> Iterator[Path]:
    """A folder with one good image and one file that is none."""
    folder = line.folder / "broken"
    folder.mkdir()
    (folder / "fine.png").write_bytes((line.folder / "images" / "fine.png").read_bytes())
    (folder / "cut.png").write_bytes((line.folder / "images" / "bad.png").read_bytes()[:400])
    yield folder
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


def test_a_file_that_is_no_image_never_passes_and_the_others_are_judged(line: Line, broken: Path) -> None:
    answer = line.score("broken", "--json", "-")
    report = GateReport.model_validate_json(answer.stdout)
    assert answer.returncode == 2
    assert [item.name for item in report.items] == ["broken/fine.png"]
    assert [file.name for file in report.rejected] == ["broken/cut.png"]
    assert not report.passed
    assert "broken/cut.png could not be judged" in answer.stderr


def test_an_image_that_fails_outranks_a_file_that_is_none(line: Line, broken: Path) -> None:
    assert line.score("broken", "images", "--fail-on", "defect").returncode == 1


def test_a_folder_without_a_file_does_not_pass(line: Line, tmp_path: Path) -> None:
    answer = line.score(tmp_path)
    assert answer.returncode == 2
    assert "no image to score" in answer.stderr


def test_the_reports_say_the_same_as_the_exit_code_and_do_so_again(line: Line, tmp_path: Path) -> None:
    files = {form: tmp_path / "reports" / f"score.{form}" for form in ("junit", "sarif", "json")}
    options = [word for form, path in files.items() for word in (f"--{form}", path)]
    contents = []
    for _ in range(2):
        assert line.score("images", "--fail-on", "defect", *options).returncode == 1
        contents.append([path.read_bytes() for path in files.values()])
    assert contents[0] == contents[1]
    suite = ET.parse(files["junit"]).getroot()[0]  # noqa: S314 - our own file
    assert [case.get("name") for case in suite.iter("testcase")] == [f"images/{n}" for n in sorted(NAMES)]
    assert [case.get("name") for case in suite.iter("testcase") if case.find("failure") is not None] == [
        "images/bad.png"
    ]
    [run_] = json.loads(files["sarif"].read_text())["runs"]
    assert [(result["level"], result["ruleId"]) for result in run_["results"]] == [
        ("error", "siftline/defect"),
        ("warning", "siftline/review"),
    ]
    report = GateReport.model_validate_json(files["json"].read_text())
    assert (report.passed, report.fail_on, report.detector.id) == (False, "defect", line.detector)


def test_a_report_that_cannot_be_written_costs_neither_the_others_nor_the_verdict(
    line: Line, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    nowhere, whole = tmp_path / "file" / "score.xml", tmp_path / "score.json"
    reports = ("--junit", nowhere, "--explain", tmp_path / "file" / "maps", "--json", whole)
    for fail_on, code in (("defect", 1), (None, 2)):
        gate = () if fail_on is None else ("--fail-on", fail_on)
        answer = line.score("images", *gate, *reports)
        assert answer.returncode == code, answer.stderr
        assert f"{nowhere}: " in answer.stderr
        assert "3 images scored by edges" in answer.stderr
        assert "odd.png" in answer.stdout
        assert len(GateReport.model_validate_json(whole.read_text()).items) == 3


def test_heat_maps_are_written_beside_each_other_under_the_images_names(line: Line, tmp_path: Path) -> None:
    answer = line.score("images", "--explain", tmp_path / "maps", "--json", "-")
    report = GateReport.model_validate_json(answer.stdout)
    assert answer.returncode == 0, answer.stderr
    for item in report.items:
        assert item.map_url == (tmp_path / "maps" / f"{item.name}.png").as_posix()
        with Image.open(item.map_url) as drawn:
            assert drawn.size == (40, 40)


def test_a_file_named_twice_is_judged_once(line: Line) -> None:
    answer = line.score("images", "images/fine.png", line.folder / "images" / "fine.png", "--json", "-")
    assert len(GateReport.model_validate_json(answer.stdout).items) == 3


def test_many_images_are_judged_in_requests_of_a_few(line: Line, tmp_path: Path) -> None:
    for number in range(70):
        (tmp_path / f"{number:02}.png").write_bytes((line.folder / "images" / "fine.png").read_bytes())
    answer = line.score(tmp_path, "--json", "-", "--fail-on", "review")
    report = GateReport.model_validate_json(answer.stdout)
    assert answer.returncode == 0
    assert [Path(item.name).name for item in report.items] == [f"{number:02}.png" for number in range(70)]


def test_an_unknown_detector_and_one_that_is_not_ready_are_usage_errors(line: Line) -> None:
    unknown = line.score("images", detector=uuid4())
    untrained = line.score("images", "--fail-on", "defect", detector=line.untrained)
    assert (unknown.returncode, untrained.returncode) == (2, 2)
    assert "detector" in unknown.stderr
    assert "training" in untrained.stderr


def test_a_server_that_is_away_is_exit_code_3(line: Line) -> None:
    answer = run(
        "score", line.detector, line.folder / "images", "--url", "http://127.0.0.1:9", "--timeout", 1
    )
    assert answer.returncode == 3


def test_no_answer_in_time_is_exit_code_3_however_often_the_server_asks_to_wait(line: Line) -> None:
    script = Script()
    script.answers = [(429, problem(429, "queue-full"), {"Retry-After": "20"})]
    with scripted(script) as url:
        answer = run("score", line.detector, line.folder / "images", "--url", url, "--timeout", 0.3)
    assert answer.returncode == 3
    assert "time" in answer.stderr


def github_steps() -> list[str]:
    """What the documented workflow runs; the `uses:` between are others' programs."""
    workflow = yaml.safe_load((DOCS / "github-actions.yml").read_text())
    return [step["run"] for step in workflow["jobs"]["images"]["steps"] if "run" in step]


def gitlab_steps() -> list[str]:
    steps: list[str] = yaml.safe_load((DOCS / "gitlab-ci.yml").read_text())["inspect"]["script"]
    return steps


@pytest.mark.parametrize(
    ("steps", "images", "code"),
    [(github_steps, ["fine.png", "odd.png"], 0), (gitlab_steps, ["fine.png", "bad.png"], 1)],
)
def test_the_documented_pipeline_passes_and_fails_as_it_says(
    line: Line, tmp_path: Path, steps: Callable[[], list[str]], images: list[str], code: int
) -> None:
    (tmp_path / "images").mkdir()
    for name in images:
        (tmp_path / "images" / name).write_bytes((line.folder / "images" / name).read_bytes())
    environment = clean_environment(
        PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        SIFTLINE_URL=line.url,
        SIFTLINE_DETECTOR=str(line.detector),
        SIFTLINE_PACKAGE="siftline",  # is installed already: no index is asked
    )
    codes = []
    for step in steps():
        shell = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step]
        codes.append(
            subprocess.run(shell, cwd=tmp_path, env=environment, check=False, timeout=120).returncode
        )
    written = {
        path.relative_to(tmp_path / "reports").as_posix() for path in (tmp_path / "reports").rglob("*.*")
    }
    assert codes == [0, code]
    assert {"siftline.xml", "siftline.json", *(f"maps/images/{name}.png" for name in images)} <= written
