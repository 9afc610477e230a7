"""Extraction end to end with the real network: order, resuming, cancelling, failing images."""

import hashlib
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from siftline.imaging import ImageLimits, Tone, decode_rgb
from siftline.settings import Settings
from siftline_workers.methods.backbones import Backbone
from siftline_workers.pipeline.dataset_images import named_backbone
from siftline_workers.pipeline.extract import ExtractionFailed, StoredImage, extract
from siftline_workers.pipeline.feature_cache import FeatureCache
from tests.networks import Lend

SHAPES = [(60, 80), (64, 64), (40, 200), (200, 40), (30, 30), (80, 60), (50, 51), (33, 90), (70, 70)]


@pytest.fixture(scope="module")
def data_dir(lend_network: Lend, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the converted network in it."""
    folder = tmp_path_factory.mktemp("lite")
    lend_network(folder)
    return folder


@pytest.fixture(scope="module")
def lite(data_dir: Path) -> Backbone:
    return named_backbone("lite", Settings(data_dir=data_dir))


def picture(i: int, shape: tuple[int, int]) -> bytes:
    buffer = BytesIO()
    pixels = np.random.default_rng(i).integers(0, 256, (*shape, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def stored(image_id: str, content: bytes, reads: list[str] | None = None) -> StoredImage:
    def open_bytes() -> bytes:
        if reads is not None:
            reads.append(image_id)
        return content

    return StoredImage(image_id, hashlib.sha256(content).hexdigest(), open_bytes)


def pictures(reads: list[str] | None = None) -> list[StoredImage]:
    return [stored(f"image-{i}", picture(i, shape), reads) for i, shape in enumerate(SHAPES)]


def silent(_: float) -> None:
    pass


def test_every_image_owns_its_features_in_the_order_given(lite: Backbone, tmp_path: Path) -> None:
    images = pictures()
    features = extract(images, lite, FeatureCache(tmp_path), silent)
    assert features.ids == tuple(image.image_id for image in images)
    assert features.grids[2].tolist() == [16, 5 * 16]  # 5 : 1 is five tiles
    for i, image in enumerate(images):
        expected = lite.embed(decode_rgb(image.open_bytes(), ImageLimits()))
        assert features.grid(i) == expected.shape[:2]
        assert np.array_equal(features.of(i), expected.reshape(-1, lite.dim))


def test_reordering_the_images_changes_no_features(lite: Backbone, tmp_path: Path) -> None:
    images = pictures()
    first = extract(images, lite, FeatureCache(tmp_path / "a"), silent)
    other = extract(images[::-1], lite, FeatureCache(tmp_path / "b"), silent)
    for i in range(len(images)):
        assert np.array_equal(first.of(i), other.of(len(images) - 1 - i))


def test_a_second_run_reads_no_image(lite: Backbone, tmp_path: Path) -> None:
    reads: list[str] = []
    first = extract(pictures(reads), lite, FeatureCache(tmp_path), silent)
    assert len(reads) == len(SHAPES)
    again = extract(pictures(reads), lite, FeatureCache(tmp_path), silent)
    assert len(reads) == len(SHAPES)
    assert np.array_equal(first.patches, again.patches)
    assert np.array_equal(first.grids, again.grids)


def test_a_damaged_cache_file_is_made_again(lite: Backbone, tmp_path: Path) -> None:
    first = extract(pictures(), lite, FeatureCache(tmp_path), silent)
    damaged = tmp_path / lite.fingerprint
    path = next(iter(damaged.rglob("*.npy")))
    path.write_bytes(path.read_bytes()[:1000])
    reads: list[str] = []
    again = extract(pictures(reads), lite, FeatureCache(tmp_path), silent)
    assert len(reads) == 1
    assert np.array_equal(first.patches, again.patches)


def test_one_content_under_two_ids_has_one_answer(lite: Backbone, tmp_path: Path) -> None:
    content = picture(1, (40, 40))
    features = extract([stored("a", content), stored("b", content)], lite, FeatureCache(tmp_path), silent)
    assert np.array_equal(features.of(0), features.of(1))


def test_the_result_outlives_its_file_and_leaves_none(lite: Backbone, tmp_path: Path) -> None:
    features = extract(pictures()[:2], lite, FeatureCache(tmp_path), silent)
    assert isinstance(features.patches, np.memmap)
    assert {p.suffix for p in tmp_path.rglob("*") if p.is_file()} == {".npy"}


def test_progress_rises_from_nothing_to_all(lite: Backbone, tmp_path: Path) -> None:
    seen: list[float] = []
    extract(pictures(), lite, FeatureCache(tmp_path), seen.append)
    assert seen[0] == 0.0
    assert seen[-1] == 1.0
    assert seen == sorted(seen)
    assert len(set(seen)) > 2


class Cancelled(Exception):
    pass


def test_cancelling_ends_every_thread_and_keeps_what_was_done(lite: Backbone, tmp_path: Path) -> None:
    def stop_midway(done: float) -> None:
        if done > 0.3:
            raise Cancelled

    reads: list[str] = []
    with pytest.raises(Cancelled):
        extract(pictures(reads), lite, FeatureCache(tmp_path), stop_midway)
    assert [t for t in threading.enumerate() if t.name.startswith("decode")] == []
    kept = len(list(tmp_path.rglob("*.npy")))
    assert 0 < kept < len(SHAPES)
    reads.clear()
    resumed = extract(pictures(reads), lite, FeatureCache(tmp_path), silent)
    assert len(reads) == len(SHAPES) - kept
    whole = extract(pictures(), lite, FeatureCache(tmp_path / "fresh"), silent)
    assert np.array_equal(resumed.patches, whole.patches)


def unreadable() -> bytes:
    raise FileNotFoundError("blob ab12 is gone")


BROKEN: list[tuple[Callable[[], StoredImage], str]] = [
    (lambda: stored("bad-1", picture(3, (40, 40))[:-500]), "the file ends before the image does"),
    (lambda: StoredImage("bad-1", "0" * 64, unreadable), "cannot be read"),
    (lambda: StoredImage("bad-1", "0" * 64, lambda: picture(3, (9, 9))), "not the one that was uploaded"),
]


@pytest.mark.parametrize(("broken", "why"), BROKEN)
def test_an_image_that_fails_is_named(
    broken: Callable[[], StoredImage], why: str, lite: Backbone, tmp_path: Path
) -> None:
    with pytest.raises(ExtractionFailed, match=why) as failed:
        extract([*pictures()[:3], broken()], lite, FeatureCache(tmp_path), silent)
    assert failed.value.image_id == "bad-1"
    assert [t for t in threading.enumerate() if t.name.startswith("decode")] == []


def test_features_that_are_no_numbers_name_their_image(lite: Backbone, tmp_path: Path) -> None:
    class Overflowing:
        tag = lite.engine.tag

        def __call__(self, tiles: np.ndarray) -> np.ndarray:
            out = lite.engine(tiles)
            out[-1, 0, 0] = np.inf
            return out

    overflowing = Backbone(lite.preset, lite.fingerprint, lite.dim, Overflowing())
    with pytest.raises(ExtractionFailed, match="not finite"):
        extract(pictures()[:1], overflowing, FeatureCache(tmp_path), silent)
    assert list(tmp_path.rglob("*.npy")) == []


def test_no_images_are_refused(lite: Backbone, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no images"):
        extract([], lite, FeatureCache(tmp_path), silent)


def test_a_sets_tone_changes_deep_images_and_is_part_of_the_key(lite: Backbone, tmp_path: Path) -> None:
    buffer = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 4096, (40, 40)).astype(np.uint16)).save(
        buffer, "PNG"
    )
    image = stored("deep", buffer.getvalue())
    cache = FeatureCache(tmp_path)
    full = extract([image], lite, cache, silent)
    twelve = extract([image], lite, cache, silent, tone=Tone(0.0, 4095.0))
    assert not np.array_equal(full.patches, twelve.patches)
    assert np.array_equal(extract([image], lite, cache, silent).patches, full.patches)


RUN = """
import os, sys
sys.path.insert(0, {root!r})
from pathlib import Path
from tests.unit.pipeline.test_extract import *
backbone = named_backbone("lite", Settings(data_dir=Path(sys.argv[2])))
def die(done):
    if done > 0.3:
        os.kill(os.getpid(), signal.SIGKILL)
extract(pictures(), backbone, FeatureCache(Path(sys.argv[1])), die)
"""


def test_a_killed_run_resumes_to_the_same_bits(lite: Backbone, data_dir: Path, tmp_path: Path) -> None:
    root = str(Path(__file__).parents[3])
    program = [sys.executable, "-c", RUN.format(root=root), str(tmp_path), str(data_dir)]
    killed = subprocess.run(program, check=False)
    assert killed.returncode == -signal.SIGKILL
    kept = len(list(tmp_path.rglob("*.npy")))
    assert 0 < kept < len(SHAPES)
    reads: list[str] = []
    resumed = extract(pictures(reads), lite, FeatureCache(tmp_path), silent)
    assert len(reads) == len(SHAPES) - kept
    whole = extract(pictures(), lite, FeatureCache(tmp_path / "fresh"), silent)
    assert np.array_equal(resumed.patches, whole.patches)
