"""Small sets as lines produce them, contaminated or clean in ways the fixed splits are not.

python -m benchmarks.awkward [--cases burst-10 foreign-noise ...] [--seeds 0 1 2]

Solar cells (ELPV), magnetic tiles and what a camera or a line does to them: one defect photographed over and
over, frames that do not belong, a second camera, drifting light, few images, many bad ones. A line a case:
our ranking beside the plain nearest patch of another image, and whether evidence, interval and cut are right.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from sklearn.datasets import load_sample_images

from benchmarks.data import load_split
from benchmarks.quality import at_cut, ordering
from benchmarks.rivals import graph_of, nearest
from siftline_workers.methods.backbones import Backbone, load_backbone, preset_named
from siftline_workers.methods.features import PatchFeatures
from siftline_workers.pipeline.checkpoints import Checkpoints
from siftline_workers.pipeline.ranking import SHARES, RankOptions, rank
from siftline_workers.pipeline.stages import Stages

Picture = NDArray[np.uint8]
_SIDE = 160  # of a crop from a photograph


@dataclass(frozen=True, slots=True)
class Line:
    """Where pictures come from, drawn by `random`."""

    random: np.random.Generator

    def cells(self, n: int, *, bad: bool = False) -> list[Picture]:
        return self._of("elpv-rho20-seed0", n, bad)

    def tiles(self, n: int, *, bad: bool = False) -> list[Picture]:
        return self._of("magnetic_tile-rho20-seed0", n, bad)

    def photograph(self, n: int) -> list[Picture]:
        """Crops of one photograph: a product of another kind."""
        whole = load_sample_images().images[0]
        corners = self.random.integers(0, [size - _SIDE for size in whole.shape[:2]], (n, 2))
        return [whole[y : y + _SIDE, x : x + _SIDE] for y, x in corners]

    def noise(self, n: int) -> list[Picture]:
        return list(self.random.integers(0, 256, (n, 300, 300, 3)).astype(np.uint8))

    def again(self, picture: Picture) -> Picture:
        """The same thing once more: moved by up to three pixels, other light, fresh noise."""
        y, x = self.random.integers(0, 7, 2)
        height, width = picture.shape[:2]
        moved = np.pad(picture, ((3, 3), (3, 3), (0, 0)), "edge")[y : y + height, x : x + width]
        noise = self.random.normal(0, 2, picture.shape)
        changed: Picture = np.clip(moved * self.random.uniform(0.97, 1.03) + noise, 0, 255).astype(np.uint8)
        return changed

    def _of(self, split: str, n: int, bad: bool) -> list[Picture]:
        labelled = load_split(split)
        paths = [path for path, odd in zip(labelled.paths, labelled.anomalous, strict=True) if odd == bad]
        chosen = self.random.permutation(len(paths))[:n]
        return [np.asarray(Image.open(paths[i]).convert("RGB")) for i in chosen]


def blurred(picture: Picture, sigma: float = 3) -> Picture:
    softened: Picture = ndimage.gaussian_filter(picture, (sigma, sigma, 0))
    return softened


def lit(picture: Picture, gain: float) -> Picture:
    changed: Picture = np.clip(picture * gain, 0, 255).astype(np.uint8)
    return changed


def burst(line: Line, copies: int) -> tuple[list[Picture], list[Picture]]:
    good, defect = line.cells(200), line.cells(1, bad=True)[0]
    return good, [line.again(defect) for _ in range(copies)]


CASES: Mapping[str, Callable[[Line], tuple[list[Picture], list[Picture]]]] = {
    "burst-10": lambda line: burst(line, 10),
    "burst-30": lambda line: burst(line, 30),
    "five-photographs-each": lambda line: (
        [line.again(cell) for cell in line.cells(40) for _ in range(5)],
        [line.again(cell) for cell in line.cells(5, bad=True) for _ in range(5)],
    ),
    "foreign-noise-tiles": lambda line: (line.tiles(200), line.noise(10)),
    "foreign-noise-cells": lambda line: (line.cells(200), line.noise(10)),
    "foreign-product": lambda line: (line.tiles(200), line.photograph(10)),
    "rare-product-clean": lambda line: (line.tiles(200) + line.photograph(10), []),
    "out-of-focus": lambda line: (line.tiles(200), [blurred(tile) for tile in line.tiles(220)[200:]]),
    "second-camera-clean": lambda line: (
        [cell if k % 12 else lit(blurred(cell, 1.2), 0.7) for k, cell in enumerate(line.cells(204))],
        [],
    ),
    "drifting-light-clean": lambda line: (
        [lit(cell, 0.5 + 0.8 * k / 200) for k, cell in enumerate(line.cells(200))],
        [],
    ),
    "two-products": lambda line: (
        line.cells(100) + line.tiles(100),
        line.cells(11, bad=True) + line.tiles(11, bad=True),
    ),
    "wide": lambda line: (
        [np.concatenate(line.cells(3), 1) for _ in range(100)],
        [np.concatenate(line.cells(2) + line.cells(1, bad=True), 1) for _ in range(10)],
    ),
    "fifty": lambda line: (line.cells(45), line.cells(5, bad=True)),
    "heavy": lambda line: (line.cells(120), line.cells(80, bad=True)),
}
"""Good ones and bad ones of each."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    given = parser.parse_args()
    backbone = load_backbone(preset_named("lite"), None, "cpu")
    for name in given.cases:
        for seed in given.seeds:
            good, bad = CASES[name](Line(np.random.default_rng(seed)))
            print(f"{name} seed {seed}, {len(good)} + {len(bad)}: {_told(good, bad, backbone)}", flush=True)


def _told(good: list[Picture], bad: list[Picture], backbone: Backbone) -> str:
    pictures = [*good, *bad]
    truth = np.arange(len(pictures)) >= len(good)
    # Pictures may be equal to the bit: the place makes the id their own.
    ids = [
        hashlib.sha256(picture.tobytes() + bytes(str(k), "ascii")).hexdigest()
        for k, picture in enumerate(pictures)
    ]
    features = PatchFeatures.from_grids(ids, [backbone.embed(picture) for picture in pictures])
    with tempfile.TemporaryDirectory() as folder:
        stages = Stages(SHARES, lambda _stage, _share: None)
        found = rank(features, RankOptions(), Checkpoints(Path(folder), "benchmark"), stages)
    suspect = np.array([verdict == "suspect" for verdict in found.split.verdict])
    row = ordering(truth, found.fused.scores.values)
    if truth.any():
        row["plain AUROC"] = ordering(truth, nearest(graph_of(found.features, np.arange(len(truth)))))[
            "AUROC"
        ]
    row |= at_cut(truth, suspect)
    row["things among the bad"] = len(np.unique(found.groups.group[truth]))
    contamination = found.split.contamination
    low, high = contamination.interval
    told = ", ".join(f"{name} {value:.3g}" for name, value in row.items())
    return (
        f"{told}, evidence {contamination.evidence}, {contamination.estimate:.3f} "
        f"({low:.3f}-{high:.3f}) for {truth.mean():.3f}"
    )


if __name__ == "__main__":
    main()
