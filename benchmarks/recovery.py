"""How much of what contamination costs a detector comes back when so many are dropped: by our order, and by
a perfect one, which drops the anomalies first.

python -m benchmarks.recovery [--splits 'magnetic_tile-repeats-rho10-*' ...]

The plain nearest-neighbour detector of benchmarks.downstream, but with one memory and one projection for all
training sets, so that dropping an image is a look-up. Its own "everything" and "true" bound the shares.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from benchmarks.case import Case
from benchmarks.data import split_names
from benchmarks.nearest import image_score
from siftline_workers.methods import neighbours, projection
from siftline_workers.methods.backbones import load_backbone, preset_named
from siftline_workers.methods.near_duplicates import NearDuplicates
from siftline_workers.methods.neighbours import NeighbourGraph, Pool
from siftline_workers.pipeline.feature_cache import FeatureCache

DROPPED = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--splits", nargs="+", default=["magnetic_tile-repeats-rho[12]0-*"])
    parser.add_argument("--cache", type=Path, default=Path("out/benchmark-cache"))
    given = parser.parse_args()
    backbone, cache = load_backbone(preset_named("lite"), None, "cpu"), FeatureCache(given.cache)
    shares: dict[str, list[dict[str, float]]] = defaultdict(list)
    for name in [name for pattern in given.splits for name in split_names(pattern)]:
        found = recovered(Case(name, backbone, cache))
        shares[re.sub(r"-seed\d+$", "", name)].append(found)
        print(name, {what: round(share, 3) for what, share in found.items()}, flush=True)
    print("\n| | " + " | ".join(shares) + " |\n|" + "---|" * (len(shares) + 1))
    for what in next(iter(shares.values()))[0]:
        means = (np.mean([split[what] for split in several]) for several in shares.values())
        print(f"| {what} | " + " | ".join(f"{mean:.2f}" for mean in means) + " |")


def recovered(case: Case) -> dict[str, float]:
    """Share of the gap by what is dropped."""
    detector, bad = Detector(case), case.split.anomalous
    score = case.ranking.fused.scores.values.astype(np.float64)
    everything, true = detector.auroc(np.ones(len(bad), bool)), detector.auroc(~bad)
    kept = {"our cut": ~case.suspect, "our order, as many as are bad": _kept(score, float(bad.mean()))}
    for share in DROPPED:
        kept[f"our order, {share:g}"] = _kept(score, share)
    for share in DROPPED:
        kept[f"perfect order, {share:g}"] = _kept(score + bad * (np.ptp(score) + 1), share)
    gap = true - everything
    return {what: (detector.auroc(images) - everything) / gap for what, images in kept.items()}


def _kept(score: NDArray[np.float64], share: float) -> NDArray[np.bool_]:
    kept = np.ones(len(score), bool)
    kept[np.argsort(-score, kind="stable")[: round(share * len(score))]] = False
    return kept


class Detector:
    """Distances of the test images' patches to every training image's part of one memory."""

    def __init__(self, case: Case) -> None:
        fitted = projection.fit(case.features)
        pool = neighbours.build_pool(projection.project(case.features, fitted))
        test = projection.project(case.test_features, fitted)
        # The memory's images count behind the test's: none of them is one of those looked up.
        n = test.n_images
        alone = NearDuplicates(test.ids, np.arange(n + case.features.n_images))
        behind = Pool(pool.vectors, pool.image + n)
        found = neighbours.search_shard(test, behind, alone, 0, n, k=len(pool.image))
        self.graph = NeighbourGraph(test.ids, test.offsets, found.distances, found.images)
        self.truth = case.test.anomalous

    def auroc(self, kept: NDArray[np.bool_]) -> float:
        """Of the image scores when those training images that are `kept` (N,) stand in the memory."""
        in_bank = np.concatenate([np.zeros(len(self.truth), bool), kept])
        heat = self.graph.bank_distance(in_bank)
        scores = [image_score(heat[start:stop]) for start, stop in pairwise(self.graph.offsets)]
        return float(roc_auc_score(self.truth, scores))


if __name__ == "__main__":
    main()
