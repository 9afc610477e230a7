"""Which of several models may score an image: one that saw neither it nor a near-duplicate."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from siftline.domain.randomness import image_keys
from siftline_workers.methods.near_duplicates import NearDuplicates


def folds_with_later_ones(
    fold: NDArray[np.int64], taught: NDArray[np.bool_], groups: NearDuplicates, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(N,) folds of all images, when models were trained on those of the first n that `taught` (n,), each
    without one fold (n,).

    A later image has the fold of its near-duplicates among the first; one without any may have each whose
    model saw something, for none saw it. Also (N,) the images of groups that have come to reach over several
    folds: each model saw some of such a group, so none may score it.
    """
    member = np.unique(groups.group, return_inverse=True)[1]
    # Where all are one thing, all are in one fold, and the others' models saw them all.
    n, folds, count = len(fold), max(int(fold.max()) + 1, 2), int(member.max()) + 1
    least, most = np.full(count, folds), np.full(count, -1)
    np.minimum.at(least, member[:n], fold)
    np.maximum.at(most, member[:n], fold)
    seen = most >= 0
    smallest_key = np.full(count, np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(smallest_key, member, image_keys(groups.ids, seed, "fold"))
    saw_something = [f for f in range(folds) if (fold[taught] != f).any()] or list(range(folds))
    drawn = np.array(saw_something)[(smallest_key % np.uint64(len(saw_something))).astype(np.int64)]
    of_group: NDArray[np.int64] = np.where(seen, most, drawn)
    return of_group[member], (seen & (least < most))[member]
