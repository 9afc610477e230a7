"""What purification is worth to the plainest detector: nearest neighbours, trained on everything, a random
subset as large as our clean set, our clean set, and all that is really good.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from benchmarks.case import Case
from benchmarks.memory import detector_scores, subset
from benchmarks.nearest import image_score
from benchmarks.quality import Row, ordering

TRAINING_SETS = ("everything", "random", "ours", "true")


def measured(case: Case) -> Row:
    """Image AUROC and AP on the split's test images for each training set."""
    row: Row = {}
    for name, chosen in training_sets(~case.suspect, case.split.anomalous).items():
        patches = detector_scores(subset(case.features, chosen), case.test_features)
        scores = np.array([image_score(patches[a:b]) for a, b in pairwise(case.test_features.offsets)])
        row |= {f"{name} {key}": value for key, value in ordering(case.test.anomalous, scores).items()}
    return row


def training_sets(clean: NDArray[np.bool_], anomalous: NDArray[np.bool_]) -> dict[str, NDArray[np.int64]]:
    """Positions of the images of each training set, ascending."""
    random = np.random.default_rng(0).permutation(len(clean))[: clean.sum()]
    chosen = (np.arange(len(clean)), np.sort(random), np.flatnonzero(clean), np.flatnonzero(~anomalous))
    return dict(zip(TRAINING_SETS, chosen, strict=True))
