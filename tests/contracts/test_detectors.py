"""What every detector keeps to, on real photographs of solar cells."""

import hashlib
import inspect
import threading
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import elpv_dataset
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from siftline.domain.calibration import calibrate
from siftline.imaging.tiles import to_tiles
from siftline_workers.methods.backbones import PRESETS, Backbone
from siftline_workers.methods.detector_table import DETECTORS
from siftline_workers.methods.detectors import Budget, Method, TooFewImages, Trained, TrainingSet
from siftline_workers.methods.features import PatchFeatures
from siftline_workers.methods.near_duplicates import NearDuplicates
from siftline_workers.methods.onnx_export import TOLERANCE, export
from siftline_workers.pipeline.extract import StoredImage, extract
from siftline_workers.pipeline.feature_cache import FeatureCache
from tests.memory_keeper import MemoryKeeper

LITE = PRESETS["lite"]
STEPS = 8
CELLS = Path(elpv_dataset.__file__).parent / "data"


class Killed(Exception):
    pass


def raising_at(share: float) -> Callable[[float], None]:
    def report(done: float) -> None:
        if done >= share:
            raise Killed

    return report


def good_cells() -> list[Path]:
    """Cells without a defect, in an order that says nothing of them."""
    rows = [line.split() for line in (CELLS / "labels.csv").read_text().splitlines()]
    good = [CELLS / path for path, probability, _ in rows if float(probability) == 0]
    return sorted(good, key=lambda path: hashlib.sha256(path.read_bytes()).hexdigest())


def tiles(paths: list[Path]) -> NDArray[np.uint8]:
    return np.concatenate(
        [to_tiles(np.asarray(Image.open(path).convert("RGB")), LITE.side) for path in paths]
    )


def features_of(backbone: Backbone, paths: list[Path], folder: Path) -> PatchFeatures:
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    stored = [StoredImage(d, d, path.read_bytes) for d, path in zip(digests, paths, strict=True)]
    return extract(stored, backbone, FeatureCache(folder), lambda _share: None)


@pytest.fixture(scope="module")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module", params=sorted(DETECTORS))
def method(request: pytest.FixtureRequest) -> Method:
    return DETECTORS[request.param]


@pytest.fixture(scope="module")
def backbone(method: Method) -> Backbone:
    return method.extractor(LITE, None, "cpu")


@pytest.fixture(scope="module")
def data(backbone: Backbone, cache_folder: Path) -> TrainingSet:
    features = features_of(backbone, good_cells()[:24], cache_folder)
    return TrainingSet(features, NearDuplicates(features.ids, np.arange(features.n_images)))


def train(
    method: Method,
    data: TrainingSet,
    keeper: MemoryKeeper,
    on_progress: Callable[[float], None] = lambda _share: None,
) -> Trained:
    return method.train(
        data, LITE, None, {}, seed=3, budget=Budget(max_steps=STEPS), keeper=keeper, on_progress=on_progress
    )  # fmt: skip


@pytest.fixture(scope="module")
def reported() -> list[float]:
    """The progress that `undisturbed` told."""
    return []


@pytest.fixture(scope="module")
def undisturbed(method: Method, data: TrainingSet, reported: list[float]) -> Trained:
    reported.clear()
    return train(method, data, MemoryKeeper(), reported.append)


def answers(trained: Trained, images: NDArray[np.uint8]) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.inference_mode():
        maps, scores = trained.module(torch.from_numpy(images))
    return maps, scores


def test_a_trained_detector_has_a_map_and_a_score_for_every_tile(undisturbed: Trained) -> None:
    images = tiles(good_cells()[24:27])
    maps, scores = answers(undisturbed, images)
    assert maps.dtype == scores.dtype == torch.float32
    assert maps.ndim == 3
    assert maps.shape[0] == scores.shape[0] == 3
    assert maps.shape[1] == maps.shape[2]
    assert maps.isfinite().all()
    assert scores.isfinite().all()
    assert float(maps.std()) > 0


def test_it_calibrates_on_images_that_it_did_not_see(undisturbed: Trained, data: TrainingSet) -> None:
    assert not undisturbed.in_sample
    assert set(undisturbed.out_of_fold.ids) <= set(data.features.ids)
    assert len(undisturbed.out_of_fold.ids) >= 4
    assert np.isfinite(undisturbed.out_of_fold.values).all()
    assert [point.step for point in undisturbed.curve][-1] == STEPS


@pytest.mark.usefixtures("undisturbed")
def test_progress_only_ever_goes_up_to_one(reported: list[float]) -> None:
    assert reported == sorted(reported)
    assert reported[-1] == pytest.approx(1.0)


def test_a_training_that_was_killed_goes_on_to_the_same_outcome(
    method: Method, data: TrainingSet, undisturbed: Trained
) -> None:
    """Killed twice: while it prepares or learns, and while it learns or calibrates."""
    keeper, threads = MemoryKeeper(), set(threading.enumerate())
    for share in (0.3, 0.8):
        with pytest.raises(Killed):
            train(method, data, keeper, raising_at(share))
        assert set(threading.enumerate()) <= threads, "a cancelled training leaves no thread behind"
    resumed = train(method, data, keeper)
    assert undisturbed.weights.keys() == resumed.weights.keys()
    for name, tensor in undisturbed.weights.items():
        assert torch.equal(tensor, resumed.weights[name]), name
    assert np.array_equal(undisturbed.out_of_fold.values, resumed.out_of_fold.values)
    assert undisturbed.curve == resumed.curve


def test_its_onnx_file_computes_what_it_computes(undisturbed: Trained, tmp_path: Path) -> None:
    found = export(undisturbed.module, LITE.side, tmp_path / "model.onnx", tiles(good_cells()[24:30]))
    assert found.spread > 0
    assert found.relative <= TOLERANCE


def test_a_tile_is_answered_alike_in_any_company(undisturbed: Trained) -> None:
    images = tiles(good_cells()[24:28])
    maps, scores = answers(undisturbed, images)
    alone_maps, alone_scores = answers(undisturbed, images[2:3])
    tolerance = 1e-4 * float(maps.max() - maps.min())
    assert torch.allclose(alone_maps[0], maps[2], rtol=0, atol=tolerance)
    assert torch.allclose(alone_scores[0], scores[2], rtol=0, atol=tolerance)


def test_a_set_too_small_is_refused_with_what_is_needed(method: Method, data: TrainingSet) -> None:
    few = data.features
    three = PatchFeatures.from_grids(few.ids[:3], [few.of(i).reshape(*few.grid(i), -1) for i in range(3)])
    with pytest.raises(TooFewImages, match=r"\d"):
        train(method, TrainingSet(three, NearDuplicates(three.ids, np.arange(3))), MemoryKeeper())


def test_photographs_of_one_thing_count_as_one(method: Method, data: TrainingSet) -> None:
    one_thing = NearDuplicates(data.features.ids, np.zeros(data.features.n_images, np.int64))
    with pytest.raises(TooFewImages):
        train(method, TrainingSet(data.features, one_thing), MemoryKeeper())


def test_no_label_can_reach_it(method: Method) -> None:
    assert [f.name for f in fields(TrainingSet)] == ["features", "groups"]
    assert [f.name for f in fields(PatchFeatures)] == ["ids", "patches", "offsets", "grids"]
    assert list(inspect.signature(method.train).parameters) == [
        "data", "preset", "weights", "options", "seed", "budget", "keeper", "on_progress", "share",
    ]  # fmt: skip


def false_alarms_expected(calibrated_on: int, fpr: float, unseen: int) -> tuple[int, int]:
    """The middle 99.8 % of false alarms among `unseen` good images: a conformal threshold's true rate is
    itself random, Beta(k, n + 1 - k) with k = floor((n + 1) fpr).
    """
    random = np.random.default_rng(0)
    k = int((calibrated_on + 1) * fpr)
    counts = random.binomial(unseen, random.beta(k, calibrated_on + 1 - k, 200_000))
    return int(np.quantile(counts, 0.001)), int(np.quantile(counts, 0.999))


def test_the_wanted_share_of_unseen_good_images_is_called_defect(
    method: Method, backbone: Backbone, cache_folder: Path
) -> None:
    """With axes fitted on all of FUN-AD's folds at once, 1 % were called at least review where 20 % were
    wanted.
    """
    cells = good_cells()
    features = features_of(backbone, cells[:70], cache_folder)
    apart = NearDuplicates(features.ids, np.arange(features.n_images))
    trained = train(method, TrainingSet(features, apart), MemoryKeeper())
    calibrated_on = len(trained.out_of_fold.values)
    found = calibrate(trained.out_of_fold.values, target_fpr=0.1, review_fpr=0.2)
    unseen = tiles(cells[70:140])
    scores = torch.cat([answers(trained, unseen[i : i + 10])[1] for i in range(0, len(unseen), 10)]).numpy()
    for threshold, fpr in ((found.threshold, 0.1), (found.review_threshold, 0.2)):
        low, high = false_alarms_expected(calibrated_on, fpr, len(scores))
        assert low <= int((scores > threshold).sum()) <= high
