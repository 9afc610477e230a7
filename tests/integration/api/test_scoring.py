"""What CI asks: is this image good? The same bytes always get the same answer, to the last bit."""

import base64
import io
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import openvino
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from siftline.imaging.tiles import to_tiles
from siftline.scoring.line import ScoringLine
from siftline.settings import Settings
from siftline.store import artifacts, detectors
from siftline.store.session import transaction
from tests.integration.api.conftest import encoded, is_problem, png, spool_is_empty, zipped
from tests.integration.detecting import Ready, add_detector, add_untrained

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
PNG = {"Content-Type": "image/png"}


@pytest.fixture
def detector(sessions: sessionmaker[Session], tmp_path: Path) -> Ready:
    return add_detector(sessions, tmp_path / "artifacts")


def path_of(detector: Ready) -> str:
    return f"/detectors/{detector.id}/score"


def score(api: TestClient, detector: Ready, data: bytes, **query: Any) -> Any:
    """One image as the body."""
    return api.post(path_of(detector), content=data, headers=PNG, params=query)


def score_files(api: TestClient, detector: Ready, *files: tuple[str, bytes], **more: Any) -> Any:
    return api.post(path_of(detector), files=[("files", file) for file in files], **more)


def test_an_image_is_answered_with_score_verdict_and_calibration(api: TestClient, detector: Ready) -> None:
    answer = score(api, detector, png(1), name="part 7.png")
    body = answer.json()
    [item] = body["items"]
    assert answer.status_code == 200
    assert body["rejected"] == []
    assert body["detector"] == {"id": str(detector.id), "name": "edges", "method": "funad", "version": 1}
    assert body["calibration"]["n"] == 50
    assert item["name"] == "part 7.png"
    assert item["verdict"] == ("defect" if item["score"] > 2.0 else item["verdict"])
    assert item["threshold"] == body["calibration"]["threshold"] == 2.0
    assert 1 / 51 <= item["p_value"] <= 1


def test_the_score_is_what_the_network_says_of_the_pixels(api: TestClient, detector: Ready) -> None:
    pixels = np.random.default_rng(3).integers(0, 255, (50, 40, 3), dtype=np.uint8)
    [item] = score(api, detector, encoded(Image.fromarray(pixels), "PNG")).json()["items"]
    core = openvino.Core()
    network = core.compile_model(core.read_model(detector.onnx), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    [alone] = network({0: to_tiles(pixels, 32)})["score"]
    assert item["score"] == pytest.approx(float(alone), rel=1e-6)


@SQLITE
def test_an_image_has_one_score_alone_in_a_batch_and_under_load(api: TestClient, detector: Ready) -> None:
    images = [(f"{seed}.png", png(seed, (60, 50))) for seed in range(12)]
    alone = [score(api, detector, data).json()["items"][0]["score"] for _, data in images]
    batch = score_files(api, detector, *images).json()["items"]
    zipped_up = score_files(api, detector, ("all.zip", zipped(*images))).json()["items"]
    with ThreadPoolExecutor(6) as crowd:
        beside = list(crowd.map(lambda file: score(api, detector, file[1]), images * 3))
    assert [item["score"] for item in batch] == alone
    assert [item["score"] for item in zipped_up] == alone
    assert [item.json()["items"][0]["score"] for item in beside] == alone * 3
    assert len(set(alone)) == len(images)


@SQLITE
def test_a_defect_is_above_the_threshold_and_an_ordinary_image_below(
    api: TestClient, sessions: sessionmaker[Session], tmp_path: Path
) -> None:
    seen = [score(api, add_detector(sessions, tmp_path / "a"), png(s)).json()["items"][0] for s in range(3)]
    low, middle, high = sorted(item["score"] for item in seen)
    told = {"scores": [low, middle], "threshold": middle, "review_threshold": low}
    detector = add_detector(sessions, tmp_path / "b", **told)
    items = [score(api, detector, png(s)).json()["items"][0] for s in range(3)]
    by_score = {item["score"]: (item["verdict"], item["p_value"]) for item in items}
    assert by_score == {low: ("ok", 1.0), middle: ("review", 2 / 3), high: ("defect", 1 / 3)}


@SQLITE
def test_a_map_is_drawn_when_asked_for(api: TestClient, detector: Ready) -> None:
    assert score(api, detector, png(1)).json()["items"][0]["map_url"] is None
    [item] = score(api, detector, png(1, (900, 300)), explain="map").json()["items"]
    head, _, data = item["map_url"].partition(",")
    assert head == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as drawn:
        assert (drawn.format, drawn.size) == ("PNG", (512, 171))
        assert np.ptp(np.asarray(drawn)) > 0


@SQLITE
def test_colours_mean_the_same_in_every_image_of_a_detector(
    api: TestClient, sessions: sessionmaker[Session], tmp_path: Path
) -> None:
    black = encoded(Image.new("RGB", (64, 64)), "PNG")
    cold, hot = (
        add_detector(sessions, tmp_path / name, map_scale=scale)
        for name, scale in (("cold", [1e6, 2e6]), ("hot", [-2e6, -1e6]))
    )
    drawn = [score(api, d, black, explain="map").json()["items"][0]["map_url"] for d in (cold, hot)]
    brightness = [
        float(np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))).mean())
        for url in drawn
    ]
    assert brightness[0] == 0  # the image untouched
    assert brightness[1] > 100


@SQLITE
def test_files_that_are_no_images_are_named_and_the_others_scored(api: TestClient, detector: Ready) -> None:
    archive = zipped(("in.png", png(2)), ("../out.png", png(3)))
    sent = [
        ("a.png", png(1)),
        ("b.txt", b"hello"),
        ("c.png", b""),
        ("d.png", png(4)[:-60]),
        ("e.zip", archive),
    ]
    body = score_files(api, detector, *sent).json()
    assert [item["name"] for item in body["items"]] == ["a.png", "in.png"]
    assert [(item["name"], item["code"]) for item in body["rejected"]] == [
        ("b.txt", "not-an-image"), ("c.png", "empty-file"), ("d.png", "truncated-image"),
        ("../out.png", "unsafe-path"),
    ]  # fmt: skip
    assert all(item["reason"] for item in body["rejected"])


@SQLITE
def test_what_cannot_be_scored_is_refused_with_its_reason(
    api: TestClient, detector: Ready, api_with: Callable[..., TestClient], sessions: sessionmaker[Session]
) -> None:
    path = path_of(detector)
    assert is_problem(api.post(path, content=b"hello", headers=PNG), 415, "not-an-image")
    assert is_problem(api.post(path, content=b"", headers=PNG), 400, "empty-body")
    assert is_problem(api.post(path), 400, "empty-body")
    assert is_problem(api.post(path, json={}), 415, "unsupported-media-type")
    assert is_problem(api.post(path, files=[("other", ("a.png", png()))]), 422, "validation-error")
    assert is_problem(
        api.post(path, files=[("files", ("a.png", png()))], data={"x": "1"}), 422, "validation-error"
    )
    assert is_problem(score(api, detector, png(), explain="poem"), 422, "validation-error")
    assert is_problem(api.post(f"/detectors/{uuid4()}/score", content=png(), headers=PNG), 404, "not-found")
    small = api_with(max_file_bytes=100, max_image_pixels=1000)
    assert is_problem(small.post(path, content=png(1, (64, 64)), headers=PNG), 413, "too-large")
    tiny = encoded(Image.new("L", (300, 300)), "PNG")[:99]
    assert is_problem(small.post(path, content=tiny, headers=PNG), 415, "not-an-image")


def test_a_detector_that_is_not_trained_yet_is_a_conflict_that_names_its_job(
    api: TestClient, sessions: sessionmaker[Session]
) -> None:
    answer = score(api, add_untrained(sessions), png())
    assert is_problem(answer, 409, "detector-not-ready")
    assert answer.json()["job"]["kind"] == "train"
    assert int(answer.headers["Retry-After"]) >= 1


@SQLITE
def test_an_image_twenty_thousand_pixels_wide_is_scored_in_tiles(
    api: TestClient, detector: Ready, settings: Settings
) -> None:
    pixels = np.full((400, 20_000), 128, dtype=np.uint8)
    good = score(api, detector, encoded(Image.fromarray(pixels), "PNG"))
    pixels[150:250, 19_700:19_800] = np.random.default_rng(0).integers(0, 255, (100, 100))
    bad = score(api, detector, encoded(Image.fromarray(pixels), "BMP"), explain="map")  # 8 MB: spooled
    assert good.status_code == bad.status_code == 200
    assert bad.json()["items"][0]["score"] > good.json()["items"][0]["score"]
    assert spool_is_empty(settings)


@SQLITE
def test_deep_images_are_seen_with_the_tone_the_detector_was_trained_with(
    api: TestClient, sessions: sessionmaker[Session], tmp_path: Path
) -> None:
    grey = np.random.default_rng(0).integers(0, 255, (40, 40), dtype=np.uint8)
    deep = encoded(Image.fromarray(grey.astype(np.uint16) * 16), "PNG")  # twelve bits
    plain = encoded(Image.fromarray(grey), "PNG")
    toned = add_detector(sessions, tmp_path / "a", tone={"black": 0.0, "white": 255.0 * 16})
    without = add_detector(sessions, tmp_path / "b")
    assert value_of(score(api, toned, deep)) == value_of(score(api, toned, plain))
    assert value_of(score(api, without, deep)) != value_of(score(api, without, plain))


def value_of(answer: Any) -> float:
    return float(answer.json()["items"][0]["score"])


def test_a_deleted_detector_is_gone_at_once_though_it_was_loaded(api: TestClient, detector: Ready) -> None:
    assert score(api, detector, png()).status_code == 200
    assert api.delete(f"/detectors/{detector.id}").status_code == 204
    assert is_problem(score(api, detector, png()), 404, "not-found")


@SQLITE
def test_deleting_while_many_score_gives_each_an_answer_or_a_404(api: TestClient, detector: Ready) -> None:
    first = value_of(score(api, detector, png(5)))
    begun = threading.Barrier(5)

    def ask(_: int) -> list[Any]:
        begun.wait()
        return [score(api, detector, png(5)) for _ in range(10)]

    with ThreadPoolExecutor(4) as crowd:
        asking = [crowd.submit(ask, i) for i in range(4)]
        begun.wait()
        assert api.delete(f"/detectors/{detector.id}").status_code == 204
        answers = [answer for asked in asking for answer in asked.result()]
    assert {answer.status_code for answer in answers} <= {200, 404}
    assert {value_of(answer) for answer in answers if answer.status_code == 200} <= {first}
    assert is_problem(score(api, detector, png(5)), 404, "not-found")


def test_a_detector_deleted_while_it_is_loaded_is_not_found(
    api: TestClient, detector: Ready, sessions: sessionmaker[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = artifacts.pieces

    def deleted_first(*given: Any) -> Any:
        with transaction(sessions) as session:
            detectors.delete(session, detector.id)
        return pieces(*given)

    monkeypatch.setattr(artifacts, "pieces", deleted_first)
    assert is_problem(score(api, detector, png()), 404, "not-found")


@pytest.mark.parametrize(
    "harm",
    ["UPDATE artifact_chunks SET content = '0'", "UPDATE artifacts SET sha256 = '00'"],
)
def test_a_damaged_artifact_is_a_clear_error_and_no_score(
    api: TestClient, detector: Ready, sessions: sessionmaker[Session], harm: str
) -> None:
    with transaction(sessions) as session:
        session.execute(text(harm))
    assert is_problem(score(api, detector, png()), 500, "detector-damaged")


@SQLITE
def test_bytes_that_are_no_network_are_a_clear_error(
    api: TestClient, sessions: sessionmaker[Session], tmp_path: Path
) -> None:
    detector = add_detector(sessions, tmp_path / "a", model=b"no network")
    assert is_problem(score(api, detector, png()), 500, "detector-damaged")
    newer = add_detector(sessions, tmp_path / "b", schema_version=99)
    assert is_problem(score(api, newer, png()), 500, "detector-damaged")


@pytest.fixture
def a_short_line(api_with: Callable[..., TestClient]) -> TestClient:
    return api_with(score_queue=3)


@SQLITE
def test_a_full_line_answers_429_and_when_to_come_back(a_short_line: TestClient, detector: Ready) -> None:
    api = a_short_line
    line: ScoringLine = api.app.state.parts.scoring  # type: ignore[attr-defined]  # TestClient types any app
    with line.places(2):  # others' images, which take as long as we like
        assert score(api, detector, png()).status_code == 200
        with line.places(1):
            refused = score(api, detector, png())
    assert is_problem(refused, 429, "too-many-requests")
    assert int(refused.headers["Retry-After"]) >= 1
    assert score(api, detector, png()).status_code == 200
    files = [(f"{i}.png", png(i)) for i in range(5)]  # more than may wait: nobody waits, so they may
    assert len(score_files(api, detector, *files).json()["items"]) == 5
