"""Draws follow a thing's key: not its place, and not who else is there."""

import numpy as np

from siftline.domain.randomness import image_keys, resampled

IDS = tuple(f"i{n:05d}" for n in range(4000))


def _draws(ids: tuple[str, ...], seed: int = 0, draws: int = 50) -> np.ndarray:
    return np.stack(list(resampled(image_keys(ids, 0, "test"), seed, draws)))


def test_every_thing_is_drawn_once_on_average_as_often_as_poisson_says() -> None:
    times = _draws(IDS)
    share = np.bincount(times.ravel(), minlength=4)[:4] / times.size
    # 200,000 draws: a share's standard error is at most .0011.
    np.testing.assert_allclose(share, np.exp(-1) / np.array([1, 1, 2, 6]), atol=0.005)
    assert abs(times.mean() - 1) < 0.01
    # Each thing over 50 draws, each draw over 4,000 things: nobody is favoured.
    each = times.mean(axis=0)
    assert 0.3 < each.min() < each.max() < 1.9
    assert abs(times.mean(axis=1) - 1).max() < 0.07


def test_no_two_draws_and_no_two_seeds_go_together() -> None:
    both = np.concatenate([_draws(IDS, seed=0, draws=12), _draws(IDS, seed=1, draws=12)])
    likeness = np.corrcoef(both)[~np.eye(24, dtype=bool)]
    assert abs(likeness).max() < 0.08  # five standard errors of 4,000 pairs


def test_a_thing_is_drawn_alike_wherever_it_stands_and_whoever_is_there() -> None:
    times = _draws(IDS, draws=3)
    order = np.random.default_rng(0).permutation(len(IDS))[:1500]
    assert (_draws(tuple(IDS[i] for i in order), draws=3) == times[:, order]).all()
