"""What each choice of CDD is worth: trained on everything, contaminated as it is, scored on the test part.

python -m benchmarks.distillation [--splits PATTERN ...] [--variants NAME ...] [--options JSON] [--cache DIR]

Every variant is trained as the service trains it, with a fifth of the images held out to calibrate on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks.data import load_split, split_names
from siftline_workers.methods import near_duplicates
from siftline_workers.methods.backbones import load_backbone, preset_named
from siftline_workers.methods.cdd import CDD, image_scores
from siftline_workers.methods.detectors import Budget, TrainingSet
from siftline_workers.methods.distillation import stages_of
from siftline_workers.methods.features import PatchFeatures
from siftline_workers.pipeline.extract import StoredImage, extract
from siftline_workers.pipeline.feature_cache import FeatureCache

VARIANTS: dict[str, dict[str, Any]] = {
    "reverse distillation": {"aggregation": False},
    "CDD": {},
    "CDD, 2 domains": {"domains": 2},
    "CDD, 5 domains": {"domains": 5},
    "CDD, drawn targets alone": {"targets": "all"},
    "CDD, drawn alone, no trim": {"targets": "all", "trim": 0.0},
    "CDD, redrawn domains": {"redraw": True},
    "CDD, all redrawn": {"redraw": True, "targets": "all", "trim": 0.1},
    "CDD, trim .1": {"trim": 0.1},
    "CDD, trim .3": {"trim": 0.3},
    "CDD, least similar": {"merge": "least_similar"},
}
PRESET = preset_named("lite")


class Forgetful:
    """A keeper that keeps nothing."""

    def load(self, name: str) -> None:  # noqa: ARG002  # a keeper's names
        return None

    def save(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--splits", nargs="+", default=["*-rho10-seed0"], metavar="PATTERN")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS, metavar="NAME")
    parser.add_argument("--options", type=json.loads, default={}, help="more options for all of them")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--cache", type=Path, default=Path("out/benchmark-cache"))
    given = parser.parse_args()
    cache = FeatureCache(given.cache)
    for name in [name for pattern in given.splits for name in split_names(pattern)]:
        train, test = load_split(name), load_split(name, "test")
        data, unseen = training_set(train.stored(), cache), extract_stages(test.stored(), cache)
        for variant in given.variants:
            for seed in given.seeds:
                row = measured(data, unseen, test.anomalous, VARIANTS[variant] | given.options, seed)
                figures = "  ".join(f"{key} {value:.3f}" for key, value in row.items())
                print(f"{name:28}{variant:24}seed {seed}  {figures}", flush=True)


def extract_stages(images: list[StoredImage], cache: FeatureCache) -> PatchFeatures:
    return extract(images, CDD.extractor(PRESET, None, "cpu"), cache, lambda _share: None)


def training_set(images: list[StoredImage], cache: FeatureCache) -> TrainingSet:
    """With near-duplicates found as purification finds them."""
    patches = extract(images, load_backbone(PRESET, None, "cpu"), cache, lambda _share: None)
    return TrainingSet(extract_stages(images, cache), near_duplicates.find(patches))


def measured(
    data: TrainingSet,
    unseen: PatchFeatures,
    anomalous: NDArray[np.bool_],
    options: dict[str, Any],
    seed: int,
) -> dict[str, float]:
    began, cpu = perf_counter(), process_time()
    trained = CDD.train(
        data,
        PRESET,
        None,
        options,
        seed=seed,
        budget=Budget(),
        keeper=Forgetful(),
        on_progress=lambda _share: None,
    )
    seconds, cpu = perf_counter() - began, process_time() - cpu
    student: Any = trained.module.student
    scores = image_scores(unseen, np.arange(unseen.n_images), stages_of(PRESET), student, lambda _share: None)
    return {
        "auroc": float(roc_auc_score(anomalous, scores)),
        "ap": float(average_precision_score(anomalous, scores)),
        "loss": trained.curve[-1].loss,
        "steps": trained.curve[-1].step,
        "s": seconds,
        "cpu_s": cpu,
    }


if __name__ == "__main__":
    main()
