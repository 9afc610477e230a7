"""Gaussians of places: fitted to other things only, equal to the textbook, and never NaN."""

import numpy as np
import pytest

from siftline_workers.methods import llbnad, padim
from siftline_workers.methods.features import PatchFeatures
from siftline_workers.methods.near_duplicates import NearDuplicates
from tests.unit.methods.synthetic import DIM, SIDE, picked, texture_images


def alone(features: PatchFeatures) -> NearDuplicates:
    return NearDuplicates(features.ids, np.arange(features.n_images))


def ruined(features: PatchFeatures, image: int) -> PatchFeatures:
    patches = features.patches.copy()
    patches[features.offsets[image] : features.offsets[image + 1]] = 9.0
    return PatchFeatures(features.ids, patches, features.offsets, features.grids)


def test_distances_are_those_of_gaussians_of_the_other_folds() -> None:
    features = texture_images(40, odd=3)
    groups = alone(features)
    found = padim.place_scores(features, groups, seed=1)
    fold = llbnad.subsets_of(groups, 5, 0, 3)
    maps = features.patches.astype(np.float64).reshape(40, 36, -1)
    image, place = 7, 11
    others = maps[fold != fold[image]]
    at_place, everywhere = others[:, place], others.reshape(-1, maps.shape[2])
    weights = np.concatenate([np.ones(len(at_place)), np.full(len(everywhere), 16 / len(everywhere))])
    stacked = np.concatenate([at_place, everywhere])
    mean = np.average(stacked, axis=0, weights=weights)
    covariance = np.cov(stacked.T, aweights=weights, bias=True)
    covariance += 0.05 * covariance.trace() / len(covariance) * np.eye(len(covariance))
    off = maps[image, place] - mean
    expected = np.sqrt(off @ np.linalg.solve(covariance, off))
    assert found.patch_scores[36 * image + place] == pytest.approx(expected, rel=1e-4)


def test_no_image_is_scored_by_what_it_or_its_near_duplicate_taught() -> None:
    features = texture_images(20)
    groups = NearDuplicates(features.ids, np.array([0, 0, *range(2, 20)]))
    told = padim.place_scores(features, groups).patch_scores[:36]
    after = padim.place_scores(ruined(features, 1), groups).patch_scores[:36]
    assert (told == after).all()
    assert (told != padim.place_scores(ruined(features, 1), alone(features)).patch_scores[:36]).any()


def test_a_barred_image_teaches_nothing_and_is_scored_all_the_same() -> None:
    features = texture_images(20)
    barred = np.arange(20) == 4
    told = padim.place_scores(features, alone(features), barred=barred).patch_scores
    after = padim.place_scores(ruined(features, 4), alone(features), barred=barred).patch_scores
    others = features.image_index != 4
    assert (told[others] == after[others]).all()
    assert told[~others].min() > 0


def test_what_is_normal_elsewhere_is_found_odd_where_it_does_not_belong() -> None:
    features = texture_images(60)
    patches = features.patches.copy()
    patches[features.offsets[5] + 2] = patches[features.offsets[9] + 30]
    moved = PatchFeatures(features.ids, patches, features.offsets, features.grids)
    found = padim.place_scores(moved, alone(features))
    assert found.patch_scores.argmax() == features.offsets[5] + 2
    assert found.scores.ranking()[0] == features.ids[5]


def test_pictures_of_several_shapes_share_their_places() -> None:
    rng = np.random.default_rng(0)
    shapes = [(6, 6), (6, 12), (20, 20)] * 10
    layout = rng.normal(size=(1, 1, 8))
    maps = [(layout + rng.normal(size=(*shape, 8))).astype(np.float16) for shape in shapes]
    maps[4][1, 1] = 20.0
    features = PatchFeatures.from_grids([f"i{i:02d}" for i in range(30)], maps)
    found = padim.place_scores(features, alone(features))
    assert np.isfinite(found.patch_scores).all()
    assert found.scores.ranking()[0] == "i04"


@pytest.mark.parametrize("n", [1, 2, 5])
def test_few_or_equal_images_give_finite_scores(n: int) -> None:
    few = padim.place_scores(texture_images(n), alone(texture_images(n)))
    assert np.isfinite(few.patch_scores).all()
    same = picked(texture_images(1), [0] * n, [f"s{i}" for i in range(n)])
    assert len(set(padim.place_scores(same, alone(same)).scores.values.tolist())) == 1
    constant = PatchFeatures(same.ids, np.ones_like(same.patches), same.offsets, same.grids)
    assert np.isfinite(padim.place_scores(constant, alone(constant)).patch_scores).all()


def rolled(features: PatchFeatures) -> PatchFeatures:
    """The same pictures with their parts anywhere."""
    rng = np.random.default_rng(1)
    maps = [features.of(i).reshape(*features.grid(i), -1) for i in range(features.n_images)]
    moved = [np.roll(m, tuple(rng.integers(0, m.shape[0], 2)), (0, 1)) for m in maps]
    return PatchFeatures.from_grids(features.ids, moved)


def test_images_that_show_one_plain_colour_give_finite_scores() -> None:
    """Of the folds without the one other thing nothing varies: only rounding is left of their covariances."""
    plain = np.full((80, SIDE, SIDE, DIM), 0.3333, np.float16)
    plain[:20] = np.random.default_rng(0).normal(size=(1, 1, 1, DIM))
    features = PatchFeatures.from_grids([f"i{i}" for i in range(80)], list(plain))
    groups = NearDuplicates(features.ids, np.array([0] * 20 + [*range(20, 80)]))
    assert np.isfinite(padim.place_scores(features, groups).patch_scores).all()


def test_the_place_is_worth_something_where_parts_have_one_and_nothing_where_they_lie_anywhere() -> None:
    features = texture_images(60)
    assert padim.fit(features, alone(features)).gain > 1
    anywhere = rolled(features)
    assert padim.fit(anywhere, alone(anywhere)).gain < 0


def test_what_is_kept_was_fitted_to_all_and_is_judged_by_what_was_not() -> None:
    features = texture_images(40, odd=3)
    fitted = padim.fit(features, alone(features), seed=1)
    assert (fitted.distances == padim.place_scores(features, alone(features), seed=1).patch_scores).all()
    maps = features.patches.astype(np.float64).reshape(40, 36, -1)
    weight = 40 / (40 + 16)
    expected = weight * maps.mean(0) + (1 - weight) * maps.mean((0, 1))
    assert fitted.mean.numpy()[padim.places_of(6, 6)] == pytest.approx(expected, abs=1e-5)


def test_models_are_kept_by_half_and_come_back_to_the_last_bit() -> None:
    models = padim.fitted(texture_images(12), NearDuplicates(tuple(map(str, range(12))), np.arange(12)))
    kept = models.arrays()
    again = padim.PlaceModels.from_arrays(kept)
    assert kept["upper"].size == models.whitening.size * 13 // 24, "the triangles of 12 by 12"
    for name in ("fold", "mean", "whitening"):
        assert getattr(again, name).tobytes() == getattr(models, name).tobytes()
