"""How well and how fast a contaminated set is ranked, split and counted, beside rivals on the same features.

python -m benchmarks.purify [--splits 'magnetic_tile-rho10-*' ...] [--rivals] [--cache DIR]

One row per split, then means over seeds. Runs exactly what the service runs (pipeline.ranking.rank). The
*label ceiling* is a cross-validated linear probe on mean and maximum of the same features: what labels would
buy.
"""

from __future__ import annotations

import argparse
import re
import resource
import tempfile
from collections import defaultdict
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks import rivals
from benchmarks.data import LabelledSplit, load_split, split_names
from siftline_workers.methods.backbones import load_backbone, preset_named
from siftline_workers.methods.features import PatchFeatures
from siftline_workers.pipeline.checkpoints import Checkpoints
from siftline_workers.pipeline.extract import extract
from siftline_workers.pipeline.feature_cache import FeatureCache
from siftline_workers.pipeline.ranking import SHARES, Ranking, RankOptions, rank
from siftline_workers.pipeline.stages import Stages

Row = dict[str, float]

COLUMNS = (
    "auroc", "ap", "precision", "recall", "kept", "estimate", "truth", "covered", "brier", "ece",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--splits", nargs="+", default=["*-rho10-seed0"], metavar="PATTERN")
    parser.add_argument("--rivals", action="store_true", help="also the baselines and the label ceiling")
    parser.add_argument("--cache", type=Path, default=Path("out/benchmark-cache"))
    arguments = parser.parse_args()
    names = [name for pattern in arguments.splits for name in split_names(pattern)]
    if not names:
        parser.error("no such split; the labelled data are expected in ../shared/data")
    backbone = load_backbone(preset_named("lite"), None, "cpu")
    cache = FeatureCache(arguments.cache)
    rows: dict[str, list[Row]] = defaultdict(list)
    print(f"{'split':34}" + "".join(f"{column:>10}" for column in COLUMNS) + "  seconds a stage")
    for name in names:
        split = load_split(name)
        began = perf_counter()
        features = extract(split.stored(), backbone, cache, lambda _share: None)
        extracted = perf_counter() - began
        ranking, seconds = _ranked(features)
        row = _measured(split, ranking)
        if arguments.rivals:
            row |= rivals.aurocs(features, split)
        rows[re.sub(r"-seed\d+$", "", name)].append(row)
        times = " ".join(f"{stage} {value:.1f}" for stage, value in seconds.items())
        _print(name, row, f"extract {extracted:.1f} {times}")
    print("\nmean over seeds")
    for name, several in rows.items():
        mean = {key: _mean([row[key] for row in several]) for key in several[0]}
        _print(name, mean, f"{len(several)} seeds")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


def _ranked(features: PatchFeatures) -> tuple[Ranking, dict[str, float]]:
    with tempfile.TemporaryDirectory() as folder:
        stages = Stages(SHARES, lambda _stage, _share: None)
        return rank(features, RankOptions(), Checkpoints(Path(folder), "benchmark"), stages), stages.seconds


def _measured(split: LabelledSplit, ranking: Ranking) -> Row:
    truth, scores = split.anomalous, ranking.fused.scores.values
    suspect = np.array([verdict == "suspect" for verdict in ranking.split.verdict])
    p = ranking.split.p_anomalous
    low, high = ranking.split.contamination.interval
    row = {
        "precision": float(truth[suspect].mean()) if suspect.any() else np.nan,
        "kept": float(1 - suspect[~truth].mean()),
        "estimate": ranking.split.contamination.estimate,
        "truth": float(truth.mean()),
        "covered": float(low <= truth.mean() <= high),
        "brier": float(((p - truth) ** 2).mean()),
        "ece": calibration_error(p, truth),
        "auroc": np.nan,
        "ap": np.nan,
        "recall": np.nan,
    }
    if truth.any():
        row["auroc"] = float(roc_auc_score(truth, scores))
        row["ap"] = float(average_precision_score(truth, scores))
        row["recall"] = float(suspect[truth].mean())
    return row


def _mean(values: list[float]) -> float:
    """Of those that are defined: without an anomaly there is no AUROC, without a suspect no precision."""
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else np.nan


def calibration_error(p: NDArray[np.float32], truth: NDArray[np.bool_], bins: int = 10) -> float:
    """Expected calibration error over bins of equal mass."""
    parts = np.array_split(np.argsort(p, kind="stable"), bins)
    return float(
        sum(len(part) * abs(p[part].mean() - truth[part].mean()) for part in parts if len(part)) / len(p)
    )


def _print(name: str, row: Row, note: str) -> None:
    print(f"{name:34}" + "".join(f"{row[column]:10.3f}" for column in COLUMNS) + f"  {note}", flush=True)
    others = {key: value for key, value in row.items() if key not in COLUMNS}
    if others:
        print(" " * 8 + "AUROC of " + ", ".join(f"{key} {value:.3f}" for key, value in others.items()))


if __name__ == "__main__":
    main()
