"""Rankings to beat that are look-ups, on the same features, and the ceiling that labels would set."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.case import Case
from benchmarks.data import LabelledSplit
from benchmarks.memory import memory_distances
from benchmarks.quality import Row, ordering
from siftline_workers.methods import neighbours
from siftline_workers.methods.features import PatchFeatures
from siftline_workers.methods.near_duplicates import NearDuplicates
from siftline_workers.methods.neighbours import NeighbourGraph
from siftline_workers.methods.pooling import pool_images

Scores = NDArray[np.floating]


def measured(case: Case) -> Row:
    """AUROC and AP of each rival; nothing on a set without an anomaly."""
    truth = case.split.anomalous
    if not truth.any():
        return {}
    projected = case.projected
    graph = graph_of(projected, np.arange(projected.n_images))
    image = image_descriptors(case.features)
    rankings: dict[str, Scores] = {
        "patch k-NN, own image out": nearest(graph),
        "the same, true groups out": nearest(graph_of(projected, case.split.thing)),
        "PatchCore-style, everything": trained_on_everything(projected),
        "SoftPatch-style LOF weights": softpatch(projected),
        "global k-NN": NearestNeighbors(n_neighbors=6).fit(image).kneighbors(image)[0][:, -1],
        "isolation forest": -IsolationForest(random_state=0).fit(image).score_samples(image),
        "LLBNAD as released, by id": llbnad_as_released(graph)[0],
        "LLBNAD as released, joined by position": llbnad_as_released(graph)[1],
        "label ceiling (linear probe)": label_ceiling(image, case.split),
    }
    rows = {name: ordering(truth, scores) for name, scores in rankings.items()}
    return {f"{name} {key}": value for name, row in rows.items() for key, value in row.items()}


def graph_of(features: PatchFeatures, group: NDArray[np.int64]) -> NeighbourGraph:
    pool = neighbours.build_pool(features)
    groups = NearDuplicates(features.ids, group)
    return neighbours.join([neighbours.search_shard(features, pool, groups, 0, features.n_images)], features)


def nearest(graph: NeighbourGraph) -> Scores:
    return pool_images(graph.bank_distance(np.ones(len(graph.ids), bool)), graph.offsets)


def trained_on_everything(features: PatchFeatures) -> Scores:
    """One memory of a random sample of all patches, own ones too; the largest distance counts."""
    distances = memory_distances(features, neighbours.build_pool(features))
    return pool_images(distances, features.offsets, (0.001,))


def softpatch(features: PatchFeatures, k: int = 6, noise: float = 0.15) -> Scores:
    """After SoftPatch (Jiang et al., NeurIPS 2022): local outlier factors among the patches of one place, the
    worst 15 % out of the memory, the others' factors as weights of the distance to them. Largest counts.

    A random memory instead of a greedy core set. ValueError for images of several grids.
    """
    if len(np.unique(features.grids, axis=0)) != 1:
        raise ValueError("patches are compared place by place: one grid for all images")
    maps = features.patches.astype(np.float32).reshape(features.n_images, -1, features.dim)
    places = range(maps.shape[1])
    neighbourhood = min(k, len(maps) - 1)
    factors = [-LocalOutlierFactor(neighbourhood).fit(maps[:, p]).negative_outlier_factor_ for p in places]
    factor = np.stack(factors, axis=1).ravel()
    trusted = np.flatnonzero(factor <= np.quantile(factor, 1 - noise))
    chosen = np.random.default_rng(0).permutation(trusted)[:16_384]
    n = features.n_images
    strangers = NearDuplicates(features.ids, np.arange(n + len(chosen)))  # each patch as an image of its own
    memory = neighbours.Pool(
        features.patches[chosen].astype(np.float32)[:, None],
        np.arange(n, n + len(chosen), dtype=np.int32),
    )
    shard = neighbours.search_shard(features, memory, strangers, 0, n, k=1)
    weight = factor[chosen][shard.images[:, 0] - n]
    return pool_images((shard.distances[:, 0] * weight).astype(np.float32), features.offsets, (0.001,))


def llbnad_as_released(graph: NeighbourGraph, subsets: int = 5, seed: int = 42) -> tuple[Scores, Scores]:
    """Stage 1 with memories as sub-models, and the same joined as the release joins it (reference 2.6).

    One partition, an image's own subset scores it too, plain means, mean of the top 1 % of patches. The
    released code takes the scores of data[order[order]] for those of data[order].
    """
    n = len(graph.ids)
    order = np.random.default_rng(seed).permutation(n)
    total = np.zeros(n)
    for members in np.array_split(order, subsets):
        bank = np.zeros(n, bool)
        bank[members] = True
        distances = graph.bank_distance(bank)
        distances[np.repeat(bank, np.diff(graph.offsets))] = 0  # its own patches stand in the memory
        total += [top.mean() for top in _tops(distances, graph.offsets)]
    mixed = np.empty(n)
    mixed[order] = total[order[order]]
    return total / subsets, mixed / subsets


def _tops(patch_scores: NDArray[np.float32], offsets: NDArray[np.int64]) -> list[NDArray[np.float32]]:
    parts = np.split(patch_scores, offsets[1:-1])
    return [np.sort(part)[-max(1, round(0.01 * len(part))) :] for part in parts]


def image_descriptors(features: PatchFeatures) -> NDArray[np.float32]:
    """(N, 2D): mean and maximum of each image's patches, standardised."""
    rows = [features.of(i).astype(np.float32) for i in range(features.n_images)]
    stacked = np.stack([np.concatenate([r.mean(0), r.max(0)]) for r in rows])
    scaled: NDArray[np.float32] = StandardScaler().fit_transform(stacked)
    return scaled


def label_ceiling(image: NDArray[np.float32], split: LabelledSplit) -> Scores:
    probe = make_pipeline(
        StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=2000)
    )
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        scores: Scores = cross_val_predict(
            probe, image, split.anomalous, groups=split.thing, cv=folds, method="decision_function"
        )
    return scores
