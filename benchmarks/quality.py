"""How good a ranking, its cut and its probabilities are, against the truth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks.case import Case

Truth = NDArray[np.bool_]
Row = dict[str, float]


def measured(case: Case) -> Row:
    """Of the service's own split; what needs an anomaly or a suspect is left out where there is none."""
    truth, split = case.split.anomalous, case.ranking.split
    low, high = split.contamination.interval
    row = ordering(truth, case.ranking.fused.scores.values) | at_cut(truth, case.suspect)
    for name, signal in case.ranking.fused.signals.items() if truth.any() else ():
        row[f"{name} AUROC"] = ordering(truth, signal.values)["AUROC"]
    return row | {
        "estimate": split.contamination.estimate,
        "truth": float(truth.mean()),
        "covered": float(low <= truth.mean() <= high),
        "width": high - low,
        "evidence": float(split.contamination.evidence != "none"),
        "Brier": float(((split.p_anomalous - truth) ** 2).mean()),
        "ECE": calibration_error(split.p_anomalous, truth),
        "seconds": case.seconds,
    }


def ordering(truth: Truth, scores: NDArray[np.floating]) -> Row:
    """AUROC and AP; nothing on a set without an anomaly."""
    if not truth.any():
        return {}
    return {
        "AUROC": float(roc_auc_score(truth, scores)),
        "AP": float(average_precision_score(truth, scores)),
    }


def at_cut(truth: Truth, suspect: NDArray[np.bool_]) -> Row:
    """Share of the good ones kept; precision and recall where they are defined."""
    row = {"good kept": float(1 - suspect[~truth].mean())}
    if suspect.any():
        row["precision"] = float(truth[suspect].mean())
    if truth.any():
        row["recall"] = float(suspect[truth].mean())
    return row


def calibration_error(p: NDArray[np.floating], truth: Truth, bins: int = 10) -> float:
    """Expected calibration error over bins of equal mass."""
    parts = np.array_split(np.argsort(p, kind="stable"), bins)
    return float(
        sum(len(part) * abs(p[part].mean() - truth[part].mean()) for part in parts if len(part)) / len(p)
    )
