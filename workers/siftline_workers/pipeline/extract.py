"""From stored images to PatchFeatures: decoding beside inference, every finished image kept.

A killed run loses at most the tiles in hand: the next one reads the rest from the cache. Memory does not
grow with the set: a few decoded images and one run of tiles at a time, the result in a memory-mapped file
without a name, which the operating system removes when the last reader is gone, however it goes.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from time import monotonic
from typing import IO

import numpy as np
from numpy.typing import NDArray

from siftline.domain.scores import ImageId
from siftline.imaging import ImageLimits, ImageRejected, Tone, decode_rgb
from siftline.imaging.tiles import join_tiles, tile_layout, to_tiles
from siftline_workers.methods.backbones import Backbone
from siftline_workers.methods.features import PatchFeatures
from siftline_workers.pipeline.feature_cache import FeatureCache

_DECODERS = min(4, os.cpu_count() or 1)
_AHEAD = 4 * _DECODERS  # decoded images waiting at most: enough to bridge one slow file
_TURN_S = 0.25  # how long the network works between two looks at progress and cancelling
_MAX_TILES_A_TURN = 64

# Ingest has checked every image against the limits of its day; they may be lower by now.
_NO_LIMITS = ImageLimits(max_pixels=2**62)


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image to extract: `open_bytes` gives its encoded content when its turn comes."""

    image_id: ImageId
    sha256: str
    open_bytes: Callable[[], bytes]


class ExtractionFailed(Exception):
    """An image that passed ingest gave no features. Names it; the message is for users."""

    def __init__(self, image_id: ImageId, detail: str) -> None:
        super().__init__(f"image {image_id}: {detail}")
        self.image_id = image_id
        self.detail = detail


@dataclass(frozen=True, slots=True)
class _Prepared:
    """One image on its way: its patch grid if the cache has it, else its tiles."""

    image: StoredImage
    grid: NDArray[np.float16] | None
    tiles: NDArray[np.uint8]
    layout: tuple[int, int]


def extract(
    images: Sequence[StoredImage],
    backbone: Backbone,
    cache: FeatureCache,
    on_progress: Callable[[float], None],
    tone: Tone | None = None,
) -> PatchFeatures:
    """Features of all images, in their order. Linear in their number.

    `tone` is the set's, from `tone_of_set`, when some images have more than eight bits. `on_progress` may
    raise to cancel: all threads have ended when that exception leaves here. Raises ExtractionFailed,
    ValueError for no images, OSError when the disk is full.
    """
    if not images:
        raise ValueError("no images to extract features from")
    grids: list[tuple[int, int]] = []
    with tempfile.TemporaryFile(dir=cache.folder) as file:
        with closing(_grids(images, _Reader(backbone, cache, tone), on_progress)) as finished:
            for grid in finished:
                file.write(grid.data)
                grids.append((grid.shape[0], grid.shape[1]))
        return _assembled(file, tuple(image.image_id for image in images), grids, backbone.dim)


def fill_cache(
    images: Sequence[StoredImage],
    backbone: Backbone,
    cache: FeatureCache,
    on_progress: Callable[[float], None],
    tone: Tone | None = None,
) -> None:
    """As `extract`, for somebody else who will ask for these images: their features stay in the cache."""
    for _grid in _grids(images, _Reader(backbone, cache, tone), on_progress):
        pass


def missing(
    images: Sequence[StoredImage], backbone: Backbone, cache: FeatureCache, tone: Tone | None
) -> bool:
    """Whether any of the images has yet to be extracted."""
    key = _cache_key(backbone, tone)
    return not all(cache.has(key, image.sha256) for image in images)


def _grids(
    images: Sequence[StoredImage], reader: _Reader, on_progress: Callable[[float], None]
) -> Generator[NDArray[np.float16]]:
    """The patch grid of each image, in their order."""
    done = 0

    def report() -> None:
        on_progress(done / len(images))

    pace = _Pace(reader.backbone)
    pool = ThreadPoolExecutor(_DECODERS, thread_name_prefix="decode")
    try:
        report()
        for run in _runs(_in_order(pool, images, reader.prepare, report), pace):
            for grid in reader.finished(run, pace.features(_tiles_of(run), report)):
                done += 1
                yield grid
            report()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _cache_key(backbone: Backbone, tone: Tone | None) -> str:
    return backbone.fingerprint if tone is None else f"{backbone.fingerprint}-{tone.black:g}-{tone.white:g}"


def _in_order(
    pool: ThreadPoolExecutor,
    images: Sequence[StoredImage],
    prepare: Callable[[StoredImage], _Prepared],
    report: Callable[[], None],
) -> Iterator[_Prepared]:
    """The images prepared by the pool, in their order, at most _AHEAD of them before they are asked for."""
    rest = iter(images)
    waiting: deque[Future[_Prepared]] = deque(pool.submit(prepare, image) for image in islice(rest, _AHEAD))
    while waiting:
        first = waiting.popleft()
        while not wait([first], timeout=_TURN_S).done:
            report()
        waiting.extend(pool.submit(prepare, image) for image in islice(rest, 1))
        yield first.result()


def _runs(stream: Iterator[_Prepared], pace: _Pace) -> Iterator[list[_Prepared]]:
    """Consecutive images that together fill one turn of the network."""
    run: list[_Prepared] = []
    for prepared in stream:
        run.append(prepared)
        if sum(len(p.tiles) for p in run) >= pace.tiles or len(run) >= _MAX_TILES_A_TURN:
            yield run
            run = []
    if run:
        yield run


def _tiles_of(run: Sequence[_Prepared]) -> NDArray[np.uint8]:
    return run[0].tiles if len(run) == 1 else np.concatenate([prepared.tiles for prepared in run])


class _Pace:
    """Runs the network in turns of about _TURN_S. How tiles are grouped does not change their features."""

    def __init__(self, backbone: Backbone) -> None:
        self.tiles = 2
        self._backbone = backbone

    def features(self, tiles: NDArray[np.uint8], report: Callable[[], None]) -> NDArray[np.float16]:
        """(T, S, S, 3) -> (T, P, D), reporting between turns."""
        preset = self._backbone.preset
        out = np.empty((len(tiles), preset.grid**2, self._backbone.dim), dtype=np.float16)
        done = 0
        while done < len(tiles):
            turn = tiles[done : done + self.tiles]
            began = monotonic()
            out[done : done + len(turn)] = self._backbone.patch_features(turn)
            done += len(turn)
            fitting = int(len(turn) * _TURN_S / max(monotonic() - began, 1e-6))
            self.tiles = min(max(fitting, 2), 2 * self.tiles, _MAX_TILES_A_TURN)
            report()
        return out


class _Reader:
    """Looks images up in the cache, decodes the others, and keeps what the network made of them."""

    def __init__(self, backbone: Backbone, cache: FeatureCache, tone: Tone | None) -> None:
        self.backbone = backbone
        self._cache = cache
        self._tone = tone
        self._key = _cache_key(backbone, tone)

    def prepare(self, image: StoredImage) -> _Prepared:
        side = self.backbone.preset.side
        grid = self._cache.load(self._key, image.sha256)
        if grid is not None and grid.shape[2] == self.backbone.dim:
            return _Prepared(image, grid, np.empty((0, side, side, 3), dtype=np.uint8), (0, 0))
        try:
            content = image.open_bytes()
            if hashlib.sha256(content).hexdigest() != image.sha256:
                raise ExtractionFailed(image.image_id, "the stored file is not the one that was uploaded")
            rgb = decode_rgb(content, _NO_LIMITS, self._tone)
        except ImageRejected as error:
            raise ExtractionFailed(image.image_id, error.detail) from error
        except OSError as error:
            raise ExtractionFailed(image.image_id, "the stored file cannot be read") from error
        return _Prepared(image, None, to_tiles(rgb, side), tile_layout(*rgb.shape[:2]))

    def finished(
        self, run: Sequence[_Prepared], features: NDArray[np.float16]
    ) -> Iterator[NDArray[np.float16]]:
        """The patch grids of the run's images, the new ones saved to the cache."""
        done = 0
        for prepared in run:
            if prepared.grid is not None:
                yield prepared.grid
                continue
            own = features[done : done + len(prepared.tiles)]
            done += len(prepared.tiles)
            if not np.isfinite(own).all():
                raise ExtractionFailed(
                    prepared.image.image_id, "the backbone's features are not finite numbers"
                )
            grid = join_tiles(own, prepared.layout, self.backbone.preset.grid)
            self._cache.save(self._key, prepared.image.sha256, grid)
            yield grid


def _assembled(
    file: IO[bytes], ids: tuple[ImageId, ...], grids: Sequence[tuple[int, int]], dim: int
) -> PatchFeatures:
    file.flush()
    shapes = np.array(grids, dtype=np.int32)
    offsets = np.concatenate([[0], np.cumsum(np.prod(shapes, axis=1, dtype=np.int64))]).astype(np.int64)
    # "r+", though nobody writes: torch takes no read-only memory, and without it widening is slow.
    patches = np.memmap(file, dtype=np.float16, mode="r+", shape=(int(offsets[-1]), dim))
    return PatchFeatures(ids, patches, offsets, shapes)
