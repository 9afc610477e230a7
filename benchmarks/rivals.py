"""Rankings to beat, on the same features, and the ceiling that labels would set."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.data import LabelledSplit
from siftline_workers.methods import neighbours, projection
from siftline_workers.methods.features import PatchFeatures
from siftline_workers.methods.near_duplicates import NearDuplicates
from siftline_workers.methods.neighbours import NeighbourGraph
from siftline_workers.methods.pooling import pool_images

Scores = NDArray[np.floating]


def aurocs(features: PatchFeatures, split: LabelledSplit) -> dict[str, float]:
    """AUROC of each rival; nothing on a set without an anomaly."""
    if not split.anomalous.any():
        return {}
    projected = projection.project(features, projection.fit(features))
    graph = _graph(projected, np.arange(projected.n_images))
    image = _image_descriptors(features)
    rankings: dict[str, Scores] = {
        "patch k-NN, own image out": _pooled(graph, graph.bank_distance(np.ones(len(graph.ids), bool))),
        "the same, true groups out": _nearest(_graph(projected, split.thing)),
        "sparse memories (MeDS 1)": _sparse_memories(graph),
        "PatchCore on everything": _trained_on_everything(projected),
        "global k-NN": NearestNeighbors(n_neighbors=6).fit(image).kneighbors(image)[0][:, -1],
        "isolation forest": -IsolationForest(random_state=0).fit(image).score_samples(image),
        "LABEL CEILING": _label_ceiling(image, split),
    }
    return {name: float(roc_auc_score(split.anomalous, scores)) for name, scores in rankings.items()}


def _graph(features: PatchFeatures, group: NDArray[np.int64]) -> NeighbourGraph:
    pool = neighbours.build_pool(features)
    groups = NearDuplicates(features.ids, group)
    return neighbours.join([neighbours.search_shard(features, pool, groups, 0, features.n_images)], features)


def _nearest(graph: NeighbourGraph) -> Scores:
    return _pooled(graph, graph.bank_distance(np.ones(len(graph.ids), bool)))


def _pooled(graph: NeighbourGraph, patch_scores: NDArray[np.float32]) -> Scores:
    return pool_images(patch_scores, graph.offsets)


def _sparse_memories(graph: NeighbourGraph) -> Scores:
    """Mean distance to 100 memories of a random tenth of the images each; mean of the top 1 % of patches."""
    random = np.random.default_rng(0)
    n = len(graph.ids)
    total = np.zeros(len(graph.distances), np.float32)
    for _ in range(100):
        member = np.zeros(n, bool)
        member[random.choice(n, max(1, n // 10), replace=False)] = True
        total += graph.bank_distance(member)
    return pool_images(total, graph.offsets, (0.01,))


def _trained_on_everything(features: PatchFeatures) -> Scores:
    """One memory of a random sample of all patches, own ones too; the largest distance counts."""
    pool = neighbours.build_pool(features)
    outsiders = NearDuplicates(features.ids, np.arange(features.n_images))
    everyone = neighbours.Pool(pool.vectors, np.full_like(pool.image, features.n_images))
    outsiders = NearDuplicates(features.ids, np.append(outsiders.group, features.n_images))
    shard = neighbours.search_shard(features, everyone, outsiders, 0, features.n_images, k=1)
    return pool_images(shard.distances[:, 0].astype(np.float32), features.offsets, (0.001,))


def _image_descriptors(features: PatchFeatures) -> NDArray[np.float32]:
    """(N, 2D): mean and maximum of each image's patches, standardised."""
    rows = [features.of(i).astype(np.float32) for i in range(features.n_images)]
    stacked = np.stack([np.concatenate([r.mean(0), r.max(0)]) for r in rows])
    scaled: NDArray[np.float32] = StandardScaler().fit_transform(stacked)
    return scaled


def _label_ceiling(image: NDArray[np.float32], split: LabelledSplit) -> Scores:
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
