"""Pictures that do not belong, put among good ones: a control that needs nobody's labels.

python -m benchmarks.foreign [--kinds dark noise stripes] [--counts 1 10] [--images 300] [--split NAME]

Dark frames, frames of noise and test patterns are the plainest faults of a camera, and many of a kind look
alike. Told of each: AUROC of the ranking and of single signals, how many of them are suspects, and with how
many good images they were taken for photographs of one thing (a mistake, always).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from benchmarks.data import load_split
from siftline_workers.methods.backbones import Backbone, load_backbone, preset_named
from siftline_workers.methods.features import PatchFeatures
from siftline_workers.pipeline.checkpoints import Checkpoints
from siftline_workers.pipeline.extract import extract
from siftline_workers.pipeline.feature_cache import FeatureCache
from siftline_workers.pipeline.ranking import SHARES, RankOptions, rank
from siftline_workers.pipeline.stages import Stages

_SHAPE = (300, 300, 3)

Maker = Callable[[np.random.Generator], NDArray[np.uint8]]


def dark(random: np.random.Generator) -> NDArray[np.uint8]:
    """Nothing but a sensor's own noise."""
    return np.clip(random.normal(8, 3, _SHAPE), 0, 255).astype(np.uint8)


def noise(random: np.random.Generator) -> NDArray[np.uint8]:
    return random.integers(0, 256, _SHAPE).astype(np.uint8)


def stripes(_random: np.random.Generator) -> NDArray[np.uint8]:
    bright = (np.arange(_SHAPE[0]) // 8 % 2 * 255).astype(np.uint8)
    return np.broadcast_to(bright[:, None, None], _SHAPE).copy()


KINDS: Mapping[str, Maker] = {"dark": dark, "noise": noise, "stripes": stripes}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--counts", nargs="+", type=int, default=[1, 10])
    parser.add_argument("--images", type=int, default=300, help="good ones")
    parser.add_argument("--split", default="elpv-rho00-seed0", help="a clean one")
    parser.add_argument("--cache", type=Path, default=Path("out/benchmark-cache"))
    given = parser.parse_args()
    backbone = load_backbone(preset_named("lite"), None, "cpu")
    stored = load_split(given.split).stored()
    stored = [stored[i] for i in np.random.default_rng(7).permutation(len(stored))[: given.images]]
    good = extract(stored, backbone, FeatureCache(given.cache), lambda _share: None)
    for kind in given.kinds:
        for count in given.counts:
            print(f"{len(stored)} + {count} {kind}: {_told(good, backbone, KINDS[kind], count)}", flush=True)


def _told(good: PatchFeatures, backbone: Backbone, make: Maker, count: int) -> str:
    random = np.random.default_rng(0)
    n = good.n_images
    maps = [good.of(i).reshape(*good.grid(i), -1) for i in range(n)]
    maps += [backbone.embed(make(random)) for _ in range(count)]
    features = PatchFeatures.from_grids([*good.ids, *(f"foreign-{k}" for k in range(count))], maps)
    with tempfile.TemporaryDirectory() as folder:
        stages = Stages(SHARES, lambda _stage, _share: None)
        found = rank(features, RankOptions(), Checkpoints(Path(folder), "benchmark"), stages)
    foreign = np.arange(n + count) >= n
    told = {"AUROC": found.fused.scores, **found.fused.signals}
    figures = [f"{name} {roc_auc_score(foreign, of.values):.3f}" for name, of in told.items()]
    suspects = sum(verdict == "suspect" for verdict in found.split.verdict[n:])
    grouped = int(np.isin(found.groups.group[:n], found.groups.group[n:]).sum())
    figures += [f"suspects {suspects}", f"good images grouped with them {grouped}"]
    return ", ".join([*figures, f"evidence {found.split.contamination.evidence}"])


if __name__ == "__main__":
    main()
