"""A training from a version's rows to artifacts that are read back, on real photographs, in this process."""

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import UUID

import numpy as np
import openvino
import pytest
from fastapi.testclient import TestClient
from PIL import Image as Picture
from safetensors.numpy import load as load_safetensors
from sqlalchemy import update
from sqlalchemy.orm import Session, sessionmaker

from siftline.domain.calibration import Calibration
from siftline.domain.errors import Unprocessable
from siftline.imaging import ImageLimits, decode_rgb
from siftline.imaging.tiles import to_tiles
from siftline.main import create_app
from siftline.settings import Settings
from siftline.store.artifacts import ArtifactTooLarge
from siftline.store.models import Image, PurifiedItem
from siftline.store.session import transaction
from siftline_workers.methods.detectors import Method
from siftline_workers.pipeline import train, training_order
from siftline_workers.running import Cancelled, LostJob
from tests.integration.training import Line, MeanPatch, new_line, solar_cells

CELLS, SUSPECTS = 24, 4
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def line(settings: Settings, sessions: sessionmaker[Session]) -> Iterator[Line]:
    with TestClient(create_app(settings), base_url="http://127.0.0.1", client=("127.0.0.1", 50000)) as api:
        yield new_line(api, sessions, settings, cells=CELLS, suspects=SUSPECTS)


@pytest.fixture
def method(monkeypatch: pytest.MonkeyPatch) -> MeanPatch:
    """Every detector of the test is the smallest there is."""
    found = MeanPatch()
    methods: dict[str, Method] = {"funad": found, "cdd": found}
    monkeypatch.setattr(training_order, "DETECTORS", MappingProxyType(methods))
    return found


def trained(line: Line, **options: Any) -> dict[str, Any]:
    detector = line.ask(**options)
    train.run(line.running(detector)[0])
    found = line.detector(detector)
    assert found["state"] == "ready"
    return found


def stopped_in(line: Line, detector: dict[str, Any], last: str, times: int = 1) -> None:
    """Run the training until it has reported the stage `last` so often."""
    job, stop = line.running(detector)
    seen: list[str] = []
    report = job.report

    def report_and_stop(stage: str, progress: float) -> None:
        seen.append(stage)
        if seen.count(last) == times:
            stop.set()
        report(stage, progress)

    job.report = report_and_stop  # type: ignore[method-assign]  # on purpose
    with pytest.raises(Cancelled):
        train.run(job)
    assert seen[-1] == last
    line.api.post(f"/jobs/{detector['job']['id']}/cancel")


def scores_of(onnx: bytes, tiles: np.ndarray[Any, Any]) -> list[float]:
    network = openvino.Core().compile_model(
        openvino.Core().read_model(onnx, b""), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    return [float(network({"tile": tiles[i : i + 1]})["score"][0]) for i in range(len(tiles))]


def test_a_training_leaves_a_detector_with_lineage_calibration_and_all_its_files(
    line: Line, method: MeanPatch
) -> None:
    found = trained(line, seed=5, target_fpr=0.1, review_fpr=0.3)
    assert found["job"]["progress"] == 1.0
    assert found["job"]["result"]["detector_id"] == found["id"]
    assert [file["name"] for file in found["artifacts"]] == [
        "calibration.json",
        "curve.png",
        "model.onnx",
        "model.safetensors",
        "report.json",
    ]
    for file in found["artifacts"]:
        assert hashlib.sha256(line.file(found, file["name"])).hexdigest() == file["sha256"]

    clean = sorted(hashlib.sha256(content).hexdigest() for _, content in solar_cells(CELLS)[SUSPECTS:])
    lineage = found["lineage"]
    assert (lineage["images"], lineage["version"]) == (CELLS - SUSPECTS, 1)
    assert lineage["images_sha256"] == hashlib.sha256("\n".join(clean).encode()).hexdigest()
    assert lineage["options"]["seed"] == 5
    assert lineage["backbone"]["name"] == "lite"
    assert set(lineage["libraries"]) == {"torch", "timm", "openvino", "onnx", "numpy"}

    report = json.loads(line.file(found, "report.json"))
    assert report["lineage"] == lineage
    assert report["calibration"] == found["calibration"]
    assert report["curve"] == found["curve"]
    assert report["parity"]["relative"] < 1e-3
    assert set(report["stage_seconds"]) == set(train.SHARES) - {"write"}
    assert report["peak_memory_bytes"] > 2**26
    assert Picture.open(io.BytesIO(line.file(found, "curve.png"))).width > 600


@on_sqlite
def test_what_is_stored_scores_as_what_was_trained(line: Line, method: MeanPatch) -> None:
    with transaction(line.sessions) as session:  # no suspect can be a good image
        session.execute(update(PurifiedItem).values(p_anomalous=1.0))
    found = trained(line, target_fpr=0.1, review_fpr=0.3)
    assert (found["calibration"]["suspects_heeded"], found["calibration"]["n"]) == (0, CELLS - SUSPECTS)
    kept = json.loads(line.file(found, "calibration.json"))
    onnx = line.file(found, "model.onnx")
    tiles = np.concatenate(
        [to_tiles(decode_rgb(c, ImageLimits(2**20)), kept["side"]) for _, c in solar_cells(CELLS)[SUSPECTS:]]
    )
    # This method's calibration scores are those of the images themselves, from features in half precision.
    np.testing.assert_allclose(sorted(scores_of(onnx, tiles)), kept["scores"], atol=0.2)
    calibration = Calibration(
        np.array(kept["scores"], np.float32), kept["threshold"], kept["review_threshold"]
    )
    verdicts = [calibration.verdict(score) for score in kept["scores"]]
    of_20 = (verdicts.count("defect"), verdicts.count("review"))
    assert of_20 == (1, 4)  # the 19th and the 15th of 20 are the quantiles for .1 and .3
    low, high = kept["map_scale"]
    assert (low + high) / 2 == pytest.approx(kept["threshold"])
    assert (kept["side"], kept["grid"], kept["tone"]) == (256, 16, None)
    assert kept["card"] == found["calibration"]
    mean = load_safetensors(line.file(found, "model.safetensors"))["mean"]
    assert mean.shape == (3,)


@on_sqlite
def test_as_many_suspects_as_are_probably_good_are_calibrated_on(line: Line, method: MeanPatch) -> None:
    with transaction(line.sessions) as session:
        session.execute(update(PurifiedItem).values(p_anomalous=0.6))
    found = trained(line)
    kept = json.loads(line.file(found, "calibration.json"))
    of = {}
    for content in (content for _, content in solar_cells(CELLS)):
        tiles = to_tiles(decode_rgb(content, ImageLimits(2**20)), kept["side"])
        of[content] = max(scores_of(line.file(found, "model.onnx"), tiles))
    scores = list(of.values())
    suspects, clean = scores[:SUSPECTS], scores[SUSPECTS:]
    expected = sorted([*clean, *sorted(suspects)[:2]])  # of 4 with .4 each
    np.testing.assert_allclose(kept["scores"], expected, atol=0.2)
    card = found["calibration"]
    assert (card["n"], card["suspects_heeded"]) == (CELLS - SUSPECTS + 2, 2)
    assert card["good_set_aside"] == pytest.approx(1.6)


@on_sqlite
def test_what_the_user_can_mend_is_said_in_words(
    line: Line, method: MeanPatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Unprocessable, match=r"wrn50\.safetensors"):
        train.run(line.running(line.ask(backbone="wrn50"))[0])
    with pytest.raises(Unprocessable, match="unknown backbone"):
        train.run(line.running(line.ask(backbone="nonsense"))[0])
    small = Line(
        line.api,
        line.sessions,
        line.settings.model_copy(update={"max_artifact_bytes": 1000}),
        line.dataset_id,
    )
    with pytest.raises(ArtifactTooLarge):
        train.run(small.running(detector := line.ask())[0])
    assert line.detector(detector)["artifacts"] == []
    monkeypatch.setattr(training_order, "DETECTORS", {})
    with pytest.raises(Unprocessable, match="no method"):
        train.run(line.running(line.ask())[0])


@on_sqlite
def test_a_set_that_became_too_small_since_it_was_asked_for_is_refused(line: Line, method: MeanPatch) -> None:
    detector = line.ask()
    names = [name for name, _ in solar_cells(CELLS)]
    with transaction(line.sessions) as session:
        session.execute(update(Image).where(Image.name.in_(names[:16])).values(review="reject"))
    with pytest.raises(Unprocessable, match="12 images"):
        train.run(line.running(detector)[0])


@on_sqlite
def test_a_cancelled_training_stops_and_its_successor_goes_on_where_it_stood(
    line: Line, method: MeanPatch
) -> None:
    undisturbed = trained(line)
    stopped = line.ask()
    stopped_in(line, stopped, "train", times=3)  # its beginning and two steps
    assert line.detector(stopped)["state"] == "training"  # until its supervisor has seen the process go
    assert line.detector(stopped)["artifacts"] == []

    resumed = trained(line)
    assert [point["step"] for point in resumed["curve"]] == [3, 4]
    for name in ("model.safetensors", "model.onnx"):
        assert line.file(resumed, name) == line.file(undisturbed, name)
    of_resumed, of_undisturbed = (
        json.loads(line.file(detector, "calibration.json")) for detector in (resumed, undisturbed)
    )
    assert of_resumed["scores"] == of_undisturbed["scores"]
    # Nothing of either is left but the features.
    assert not list(line.settings.work_dir.rglob("*.npz"))
    assert not list(line.settings.work_dir.glob("artifacts-*"))


@on_sqlite
def test_an_attempt_thought_dead_that_wakes_up_leaves_its_successors_files_alone(
    line: Line, method: MeanPatch
) -> None:
    job, _ = line.running(line.ask())
    with train._folder(job) as ours:
        (ours / "model.onnx").write_bytes(b"half")
        with pytest.raises(LostJob), train._folder(job) as theirs:
            raise LostJob
        assert (ours / "model.onnx").read_bytes() == b"half"
        theirs.mkdir()  # as after a kill
    assert not list(line.settings.work_dir.glob("artifacts-*"))


@on_sqlite
def test_a_worker_whose_processor_counts_otherwise_does_not_go_on_with_anothers_training(
    line: Line, method: MeanPatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped_in(line, line.ask(), "train", times=3)
    monkeypatch.setattr(train, "search_precision", lambda: "another")
    assert [point["step"] for point in trained(line)["curve"]] == [1, 2, 3, 4]


@on_sqlite
@pytest.mark.parametrize(("budget", "steps"), [({"max_steps": 2}, 2), ({"max_minutes": 1e-9}, 0)])
def test_a_budget_ends_a_training_early_with_what_there_is(
    line: Line, method: MeanPatch, budget: dict[str, Any], steps: int
) -> None:
    stopped_in(line, line.ask(**budget), "calibrate")
    assert method.steps_done == steps


@on_sqlite
@pytest.mark.parametrize("features", ["in the cache", "to be extracted"])
@pytest.mark.parametrize(
    "damage", [Path.unlink, lambda path: path.write_bytes(b"torn")], ids=["lost", "torn"]
)
def test_an_image_that_is_no_more_is_named(
    line: Line, method: MeanPatch, features: str, damage: Callable[[Path], object]
) -> None:
    if features == "in the cache":
        stopped_in(line, line.ask(), "train")
    for blob in line.settings.blobs_dir.rglob("*"):
        if blob.is_file():
            damage(blob)
    with pytest.raises(Unprocessable) as told:
        train.run(line.running(line.ask())[0])
    assert UUID(str(told.value.extra["image_id"]))
