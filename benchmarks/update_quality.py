"""What a batch for a purified set costs in quality: an update against all images purified from nothing.

python -m benchmarks.update_quality [--splits '*-rho10-seed0' ...] [--share 0.05 0.1]

The split's training images but a random share are purified; then the share is added on what that version
kept (the basis, pipeline.incremental), and, apart, all are purified at once.
speed_update says what it costs in time.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.case import Case
from benchmarks.data import split_names
from benchmarks.memory import subset
from benchmarks.quality import ordering
from siftline_workers.methods.backbones import load_backbone, preset_named
from siftline_workers.methods.features import PatchFeatures
from siftline_workers.pipeline import descriptions
from siftline_workers.pipeline.checkpoints import Checkpoints
from siftline_workers.pipeline.descriptions import Basis
from siftline_workers.pipeline.feature_cache import FeatureCache
from siftline_workers.pipeline.ranking import SHARES, Ranking, RankOptions, rank
from siftline_workers.pipeline.stages import Stages


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--splits", nargs="+", default=["*-rho10-seed0"], metavar="PATTERN")
    parser.add_argument("--share", nargs="+", type=float, default=[0.05, 0.1])
    parser.add_argument("--cache", type=Path, default=Path("out/benchmark-cache"))
    given = parser.parse_args()
    backbone, cache = load_backbone(preset_named("lite"), None, "cpu"), FeatureCache(given.cache)
    print("| split, added | AUROC update, full | rank correlation | p: mean, most | verdicts differ | new |")
    print("|---|---|---|---|---|---|")
    for name in [name for pattern in given.splits for name in split_names(pattern)]:
        case = Case(name, backbone, cache)
        for share in given.share:
            print(compared(case, share), flush=True)


def compared(case: Case, share: float) -> str:
    """A line of the table."""
    n = case.features.n_images
    known = n - round(share * n)
    order = np.random.default_rng(0).permutation(n)
    features, truth = subset(case.features, order), case.split.anomalous[order]
    update, full = grown(features, known), ranked(features)
    scores = [found.fused.scores.values for found in (update, full)]
    correlation = np.corrcoef([values.argsort().argsort() for values in scores])[0, 1]
    change = np.abs(update.split.p_anomalous - full.split.p_anomalous)
    moved = np.array(update.split.verdict) != np.array(full.split.verdict)
    aurocs = " ".join(f"{ordering(truth, values)['AUROC']:.4f}" for values in scores)
    suspects = " ".join(str(found.split.verdict.count("suspect")) for found in (update, full))
    return (
        f"| {case.name}, {n - known} to {known} | {aurocs} | {correlation:.4f} "
        f"| {change.mean():.4f} {change.max():.3f} | {moved.sum()} ({suspects} suspects) "
        f"| {moved[known:].sum()} |"
    )


def ranked(features: PatchFeatures) -> Ranking:
    with tempfile.TemporaryDirectory() as folder:
        return rank(features, RankOptions(), Checkpoints(Path(folder), "full"), _quiet())


def grown(features: PatchFeatures, known: int) -> Ranking:
    """As a job does it: first the earlier version, then all, of which only the later images' features."""
    with tempfile.TemporaryDirectory() as folder:
        basis = Basis(known, Checkpoints(Path(folder), "basis"))
        first, later = (subset(features, part) for part in np.split(np.arange(features.n_images), [known]))
        rank(first, RankOptions(), Checkpoints(Path(folder), "first"), _quiet(), basis=basis)
        earlier = descriptions.kept(basis, features.ids)
        checkpoints = Checkpoints(Path(folder), "update")
        return rank(later, RankOptions(), checkpoints, _quiet(), basis=basis, earlier=earlier)


def _quiet() -> Stages:
    return Stages(SHARES, lambda _stage, _share: None)


if __name__ == "__main__":
    main()
