"""What the ranking reads of each image: its patches in few dimensions and its sketch for near-duplicates.

Both follow from the image and from statistics of the basis (graph.py). So those of the basis are kept with
it, run by run, and of a set that has grown only the later images' features are needed.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from siftline.domain.scores import ImageId
from siftline_workers.methods import near_duplicates, projection
from siftline_workers.methods.features import PatchFeatures
from siftline_workers.methods.parallel import for_each
from siftline_workers.methods.projection import Projection
from siftline_workers.pipeline.checkpoints import Arrays, Checkpoints
from siftline_workers.pipeline.stages import Progress, part

_IMAGES_A_RUN = 128


@dataclass(frozen=True, slots=True)
class Basis:
    """The images that the statistics are taken from: the first so many of the set."""

    images: int
    pieces: Checkpoints
    """What follows from them alone: of use to every set that begins with them."""


@dataclass(frozen=True, slots=True)
class _Space:
    """What rows and sketches are taken by."""

    fitted: Projection
    scale: NDArray[np.float32]


class Descriptions:
    """Of the first images of a set, one run after the other.

    Rows are in a mapped file without a name: a large set must not fill the memory.
    """

    def __init__(self, basis: Basis, space: _Space) -> None:
        self.space = space
        self._file = basis.pieces.scratch()
        weakref.finalize(self, self._file.close)
        self._grids: list[NDArray[np.int32]] = []
        self._sketches: list[NDArray[np.float32]] = []
        self._dim = 0
        self.ids: tuple[ImageId, ...] = ()

    def append(self, ids: tuple[ImageId, ...], run: Arrays) -> None:
        """The next images, with their rows (patches, d) float16, grids (n, 2) and sketches (n, 2048)."""
        self._file.write(run["rows"].data)
        self._grids.append(run["grids"])
        self._sketches.append(run["sketches"])
        self._dim = run["rows"].shape[1]
        self.ids += ids

    def projected(self) -> PatchFeatures:
        """Of all images so far."""
        self._file.flush()
        grids = np.concatenate(self._grids)
        offsets = np.concatenate([[0], np.cumsum(np.prod(grids, axis=1, dtype=np.int64))]).astype(np.int64)
        # "r+", though nobody writes: torch takes no read-only memory.
        rows = np.memmap(self._file, dtype=np.float16, mode="r+", shape=(int(offsets[-1]), self._dim))
        return PatchFeatures(self.ids, rows, offsets, grids)

    def sketches(self) -> NDArray[np.float32]:
        """(images, 2048). They are given away: who groups by them needs them once."""
        given, self._sketches = self._sketches, []
        return np.concatenate(given)


def kept(basis: Basis, ids: tuple[ImageId, ...]) -> Descriptions | None:
    """Of the basis, the first of the images `ids`, as earlier runs left them; None unless they left all."""
    axes, scale = basis.pieces.load("projection"), basis.pieces.load("scale")
    if axes is None or scale is None:
        return None
    found = Descriptions(basis, _space(axes, scale))
    for start in range(0, basis.images, _IMAGES_A_RUN):
        run = basis.pieces.load(_name(start))
        if run is None:
            return None
        found.append(ids[start : min(start + _IMAGES_A_RUN, basis.images)], run)
    return found


def described(
    features: PatchFeatures, basis: Basis, earlier: Descriptions | None, *, seed: int, progress: Progress
) -> Descriptions:
    """Of all images. `features` are those of all, or of all that are not among the `earlier` ones."""
    # The space that the earlier ones were read with: its pieces may be gone by now, and `features` are not
    # those it was fitted to.
    out = earlier or Descriptions(basis, _fitted(features, basis, seed))
    before = len(out.ids)
    n, known = before + features.n_images, basis.images

    def run(start: int, stop: int) -> Arrays:
        watch = part(progress, start / n, stop / n)
        first, last = start - before, stop - before
        rows = _projected(features, out.space.fitted, first, last, part(watch, 0.0, 0.6))
        drawn = near_duplicates.sketches(
            features, out.space.scale, first, last, seed=seed, on_progress=part(watch, 0.6, 1.0)
        )
        features.let_go()
        return {"rows": rows, "grids": features.grids[first:last], "sketches": drawn}

    for start in [*range(before, known, _IMAGES_A_RUN), *range(known, n, _IMAGES_A_RUN)]:
        stop = min(start + _IMAGES_A_RUN, known if start < known else n)
        make = partial(run, start, stop)
        found = basis.pieces.once(_name(start), make) if start < known else make()
        out.append(features.ids[start - before : stop - before], found)
    return out


def _fitted(features: PatchFeatures, basis: Basis, seed: int) -> _Space:
    """Kept, so that a resumed run's pieces are of the same space to the last bit, on whatever machine."""

    def fit() -> Arrays:
        fitted = projection.fit(features.first(basis.images), seed=seed)
        return {"mean": fitted.mean, "matrix": fitted.matrix}

    def measure() -> Arrays:
        return {"scale": near_duplicates.channel_scale(features.first(basis.images), seed)}

    return _space(basis.pieces.once("projection", fit), basis.pieces.once("scale", measure))


def _space(axes: Arrays, scale: Arrays) -> _Space:
    return _Space(Projection(mean=axes["mean"], matrix=axes["matrix"]), scale["scale"])


def _projected(
    features: PatchFeatures, fitted: Projection, start: int, stop: int, progress: Progress
) -> NDArray[np.float16]:
    """(patches, d) of images start..stop."""
    first = int(features.offsets[start])
    rows = np.empty((int(features.offsets[stop]) - first, fitted.dim), np.float16)

    def write(i: int) -> None:
        rows[features.offsets[i] - first : features.offsets[i + 1] - first] = fitted.of(features, i)

    for_each(write, start, stop, progress)
    return rows


def _name(start: int) -> str:
    return f"images-{start:07d}"
