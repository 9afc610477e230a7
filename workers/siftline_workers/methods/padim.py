"""What is normal where: a Gaussian of the patches at each place of the picture, cross-fitted over images.

After PaDiM (Defard et al., ICPR 2020 workshops, arXiv 2011.08785), own code. Parts lie alike in most
pictures, so how much a patch may vary depends on where it is, and along which axes. Departures:
- cross-fitted: a Gaussian that scores an image was fitted to others, its near-duplicates not among them;
- a place is a cell of a 16 x 16 layout over the whole picture, whatever its grid;
- the first principal axes of the set instead of random channels;
- a few patches drawn from anywhere stand beside those of each place: where images are few, the Gaussians
  turn into that of the whole set.

One pass for sums, one for scores: linear in images, and no search.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from siftline.domain.scores import ScoredImages
from siftline_workers.methods.features import PatchFeatures, float32
from siftline_workers.methods.llbnad import subsets_of
from siftline_workers.methods.near_duplicates import NearDuplicates
from siftline_workers.methods.parallel import for_each
from siftline_workers.methods.pooling import pool_images
from siftline_workers.methods.seeding import Progress, ignore_progress, shuffled

_SIDE = 16  # places a side
AXES = 64  # a covariance of more needs more images than many sets have
_FOLDS = 5
_ANYWHERE = 16.0  # patches from anywhere that stand beside those of a place
_RIDGE = 0.05  # of the mean variance: axes with less cannot decide alone
_ROUNDING = 1e-5  # of the mean square: what products in float32 leave of a variance that is none
_TOGETHER = 32  # images looked at together


@dataclass(frozen=True, slots=True)
class PlaceScores:
    scores: ScoredImages
    patch_scores: NDArray[np.float32]
    """(patches,) Mahalanobis distance from what other images show at the same place."""


@dataclass(frozen=True, slots=True)
class FittedPlaces:
    mean: Tensor
    """(C, d) of what the images show at each of C places."""
    whitening: Tensor
    """(C, d, d): a row times it has unit covariance."""
    distances: NDArray[np.float32]
    """(patches,) Mahalanobis distance of the images fitted to, cross-fitted."""
    gain: float
    """How much better its place foretells a patch of another image than one Gaussian of all places does:
    difference of log-likelihoods in nats, median over patches, cross-fitted. Negative where parts lie at
    random.
    """


@dataclass(frozen=True, slots=True)
class PlaceModels:
    """Gaussians at C places, for each of F folds those of the images outside it."""

    fold: NDArray[np.int64]
    """(n,) of the images they were fitted to."""
    mean: NDArray[np.float32]
    """(F, C, d)"""
    whitening: NDArray[np.float32]
    """(F, C, d, d) upper triangular: rows times these have unit covariance."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """To be kept: of the triangles what is not zero, half of all bytes."""
        upper = np.triu_indices(self.whitening.shape[-1])
        return {"fold": self.fold, "mean": self.mean, "upper": self.whitening[:, :, *upper]}

    @classmethod
    def from_arrays(cls, kept: Mapping[str, NDArray[Any]]) -> PlaceModels:
        d = kept["mean"].shape[-1]
        whitening = np.zeros((*kept["mean"].shape, d), np.float32)
        whitening[:, :, *np.triu_indices(d)] = kept["upper"]
        return cls(kept["fold"], kept["mean"], whitening)


@dataclass(frozen=True, slots=True)
class _Moments:
    """Count (C,), sum (C, d) and sum of outer products (C, d, d) of the patches at each of C places."""

    count: Tensor
    first: Tensor
    second: Tensor

    def __add__(self, other: _Moments) -> _Moments:
        return _Moments(self.count + other.count, self.first + other.first, self.second + other.second)

    def __sub__(self, other: _Moments) -> _Moments:
        return _Moments(self.count - other.count, self.first - other.first, self.second - other.second)

    def anywhere(self) -> _Moments:
        """At each place what is at all of them together."""
        everything = (
            sums.sum(0, keepdim=True).expand_as(sums) for sums in (self.count, self.first, self.second)
        )
        return _Moments(*everything)


def place_scores(
    features: PatchFeatures,
    groups: NearDuplicates,
    *,
    barred: NDArray[np.bool_] | None = None,
    seed: int = 0,
    on_progress: Progress = ignore_progress,
) -> PlaceScores:
    """Cross-fitted scores of all images. `features` are projected ones: the first axes carry most.

    `barred` (N,) images are scored but fitted to by none. Where no other image is left, scores are 0.
    """
    models = fitted(features, groups, barred=barred, seed=seed, on_progress=lambda p: on_progress(0.5 * p))
    rows = patch_scores(
        features, models, models.fold, seed=seed, on_progress=lambda p: on_progress(0.5 + 0.5 * p)
    )
    return PlaceScores(ScoredImages(features.ids, pool_images(rows, features.offsets)), rows)


def fitted(
    features: PatchFeatures,
    groups: NearDuplicates,
    *,
    barred: NDArray[np.bool_] | None = None,
    seed: int = 0,
    on_progress: Progress = ignore_progress,
) -> PlaceModels:
    """The models of `place_scores`."""
    fold = subsets_of(groups, _FOLDS, 0, seed + 2)
    wanted = np.ones(features.n_images, bool) if barred is None else ~barred
    order = shuffled(features.ids, seed, "padim")
    parts = _parts(features, fold, order[wanted[order]], on_progress)
    total = sum(parts[1:], parts[0])
    means, whitenings = zip(*(_gaussians(total - part) for part in parts), strict=True)
    return PlaceModels(fold, torch.stack(means).numpy(), torch.stack(whitenings).numpy())


def scored_apart(
    features: PatchFeatures, apart: NDArray[np.bool_], barred: NDArray[np.bool_], *, seed: int = 0
) -> NDArray[np.float32]:
    """(patches,) of the images `apart` (N,), by Gaussians of all others that are not barred; 0 elsewhere."""
    order = shuffled(features.ids, seed, "padim")
    alone = np.zeros(features.n_images, np.int64)
    mean, whitening = _gaussians(_parts(features, alone, order[~(apart | barred)[order]])[0])
    rows = np.zeros(features.n_patches, np.float32)
    for run in _runs(features, order[apart[order]]):
        for i, distances in zip(run, _distances(features, run, mean, whitening), strict=True):
            rows[features.offsets[i] : features.offsets[i + 1]] = distances
    return rows


def patch_scores(
    features: PatchFeatures,
    models: PlaceModels,
    fold: NDArray[np.int64],
    start: int = 0,
    *,
    seed: int = 0,
    on_progress: Progress = ignore_progress,
) -> NDArray[np.float32]:
    """Of the patches of all images from `start` on, each by the model that its fold (N,) was kept from."""
    first = features.offsets[start]
    rows = np.zeros(features.n_patches - first, np.float32)
    order = shuffled(features.ids, seed, "padim")
    order = order[order >= start]
    runs = [(f, run) for f in range(_FOLDS) for run in _runs(features, order[(fold == f)[order]])]
    means, whitenings = torch.from_numpy(models.mean), torch.from_numpy(models.whitening)

    def score(r: int) -> None:
        f, run = runs[r]
        for i, distances in zip(run, _distances(features, run, means[f], whitenings[f]), strict=True):
            rows[features.offsets[i] - first : features.offsets[i + 1] - first] = distances

    for_each(score, 0, len(runs), on_progress)
    return rows


def fit(features: PatchFeatures, groups: NearDuplicates, *, seed: int = 0) -> FittedPlaces:
    """Fitted to all images, and cross-fitted what that is worth. `features` as for `place_scores`."""
    fold = subsets_of(groups, _FOLDS, 0, seed + 2)
    parts = _parts(features, fold, shuffled(features.ids, seed, "padim"))
    total = sum(parts[1:], parts[0])
    distances, gains = np.zeros((2, features.n_patches), np.float32)

    def score(f: int) -> None:
        mean, whitening = _gaussians(total - parts[f])
        other_mean, other_whitening = _gaussians((total - parts[f]).anywhere())
        volume = (_log_det(whitening) - _log_det(other_whitening)).numpy()
        for run in _runs(features, np.flatnonzero(fold == f)):
            here = _distances(features, run, mean, whitening)
            gain = (_distances(features, run, other_mean, other_whitening) ** 2 - here**2) / 2
            gain += volume[places_of(*features.grid(int(run[0])))]
            for k, i in enumerate(run):
                rows = slice(features.offsets[i], features.offsets[i + 1])
                distances[rows], gains[rows] = here[k], gain[k]

    for_each(score, 0, _FOLDS)
    return FittedPlaces(*_gaussians(total), distances, float(np.median(gains)))


def _parts(
    features: PatchFeatures,
    fold: NDArray[np.int64],
    images: NDArray[np.int64],
    on_progress: Progress = ignore_progress,
) -> list[_Moments]:
    """Of each fold's images among `images`."""
    parts = [_nothing(features)] * _FOLDS

    def gather(f: int) -> None:
        for run in _runs(features, images[fold[images] == f]):
            parts[f] = parts[f] + _moments(features, run)

    for_each(gather, 0, _FOLDS, on_progress)
    return parts


def places_of(rows: int, columns: int) -> Tensor:
    """(rows * columns,): the place of each patch of such a grid."""
    row = torch.arange(rows) * _SIDE // rows
    column = torch.arange(columns) * _SIDE // columns
    return (row[:, None] * _SIDE + column).flatten()


def _runs(features: PatchFeatures, images: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The images, those of one grid together and otherwise in their order, at most 32 a run."""
    shapes = features.grids[images]
    runs = []
    for shape in np.unique(shapes, axis=0):
        alike = images[(shapes == shape).all(axis=1)]
        runs += [alike[k : k + _TOGETHER] for k in range(0, len(alike), _TOGETHER)]
    return runs


def _by_patch(features: PatchFeatures, run: NDArray[np.int64]) -> Tensor:
    """(P, n, d): the patches of images of one grid, those at one place of it together."""
    images = [torch.from_numpy(float32(features.of(int(i))[:, :AXES])) for i in run]
    return torch.stack(images, dim=1)


def _nothing(features: PatchFeatures) -> _Moments:
    places, d = _SIDE * _SIDE, min(AXES, features.dim)
    zeros = torch.zeros(places, d, d, dtype=torch.float64)
    return _Moments(zeros[:, 0, 0].clone(), zeros[:, 0].clone(), zeros)


def _moments(features: PatchFeatures, run: NDArray[np.int64]) -> _Moments:
    patches, places = _by_patch(features, run), places_of(*features.grid(int(run[0])))
    sums = _nothing(features)
    sums.count.index_add_(0, places, torch.full((len(places),), float(len(run)), dtype=torch.float64))
    sums.first.index_add_(0, places, patches.sum(1).double())
    sums.second.index_add_(0, places, (patches.transpose(1, 2) @ patches).double())
    return sums


def _gaussians(sums: _Moments) -> tuple[Tensor, Tensor]:
    """Means (C, d) and whitening matrices (C, d, d): rows times these have unit covariance."""
    whole = float(sums.count.sum())
    if whole == 0:
        return torch.zeros_like(sums.first).float(), torch.zeros_like(sums.second).float()
    count = (sums.count + _ANYWHERE)[:, None]
    mean = (sums.first + _ANYWHERE * sums.first.sum(0) / whole) / count
    second = (sums.second + _ANYWHERE * sums.second.sum(0) / whole) / count[..., None]
    covariance = second - mean[:, :, None] * mean[:, None, :]
    ridge = _RIDGE * covariance.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-12)
    rounding = _ROUNDING * second.diagonal(dim1=1, dim2=2).mean(1)
    covariance.diagonal(dim1=1, dim2=2).add_(torch.maximum(ridge, rounding)[:, None])
    lower = torch.linalg.cholesky(covariance)
    identity = torch.eye(lower.shape[1], dtype=lower.dtype).expand_as(lower)
    whitening = torch.linalg.solve_triangular(lower, identity, upper=False).transpose(1, 2)
    return mean.float(), whitening.float().contiguous()


def _distances(
    features: PatchFeatures, run: NDArray[np.int64], mean: Tensor, whitening: Tensor
) -> NDArray[np.float32]:
    """(n, P): Mahalanobis distances of the patches of images of one grid."""
    places = places_of(*features.grid(int(run[0])))
    white = (_by_patch(features, run) - mean[places][:, None]) @ whitening[places]
    distances: NDArray[np.float32] = white.square().sum(2).sqrt().T.numpy()
    return distances


def _log_det(whitening: Tensor) -> Tensor:
    """(C,): of triangular matrices."""
    return whitening.diagonal(dim1=1, dim2=2).abs().clamp(min=1e-30).log().sum(1)
