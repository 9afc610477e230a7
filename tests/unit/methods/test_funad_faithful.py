"""The release's rules, each against a plain restatement."""

import numpy as np
import pytest
import torch

from siftline_workers.methods.funad_faithful import (
    FaithfulOptions,
    FaithfulTraining,
    balanced_cross_entropy,
    bank_distance,
    scaled,
)
from tests.memory_keeper import MemoryKeeper


def tiles(n: int = 12) -> torch.Tensor:
    return torch.randn(n, 16, 6, generator=torch.Generator().manual_seed(1)).half()


def training(kept: MemoryKeeper, steps: int = 25, n: int = 12) -> FaithfulTraining:
    options = FaithfulOptions(steps=steps, batch=5, learning_rate=1e-3)
    return FaithfulTraining(tiles(n), 4, options, kept, seed=7, name="f")


def test_the_distance_is_squared_and_skips_the_patch_itself() -> None:
    bank = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    queries = torch.tensor([[0.0, 0.0], [0.0, 1.0], [3.0, 4.05]])
    assert bank_distance(queries, bank).tolist() == pytest.approx([25.0, 1.0, 9 + 4.05**2], rel=1e-5)


def test_a_bank_of_one_patch_is_enough() -> None:
    assert bank_distance(torch.ones(2, 3), torch.ones(1, 3)).tolist() == [0.0, 0.0]


def test_every_batch_has_an_anomaly_unless_all_distances_are_equal() -> None:
    assert scaled(torch.tensor([1.0, 1.5, 2.0])).tolist() == [0.0, 0.5, 1.0]
    assert scaled(torch.full((3,), 4.0)).tolist() == [0.0, 0.0, 0.0]


def test_both_kinds_weigh_the_same_however_few_there_are() -> None:
    p = torch.tensor([0.9, 0.2, 0.2, 0.2])
    expected = -np.log(0.9) - np.log(0.8)
    assert float(balanced_cross_entropy(p, p > 0.5)) == pytest.approx(expected, rel=1e-5)


def test_no_positives_give_a_number() -> None:
    p = torch.tensor([0.2, 0.2])
    assert float(balanced_cross_entropy(p, p > 0.5)) == pytest.approx(-np.log(0.8), rel=1e-5)


def test_a_killed_training_goes_on_to_the_same_weights() -> None:
    whole, kept = training(MemoryKeeper()), MemoryKeeper()
    whole.run(lambda: False, lambda _step: None)

    def kill(step: int) -> None:
        if step == 13:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        training(kept).run(lambda: False, kill)
    resumed = training(kept)
    resumed.run(lambda: False, lambda _step: None)
    assert resumed.curve == whole.curve
    for name, tensor in whole.scorer.state_dict().items():
        assert torch.equal(tensor, resumed.scorer.state_dict()[name]), name


@pytest.mark.parametrize("n", [1, 3])
def test_fewer_tiles_than_a_batch_still_train(n: int) -> None:
    few = training(MemoryKeeper(), steps=3, n=n)
    few.run(lambda: False, lambda _step: None)
    assert few.step == 3
    assert all(np.isfinite(point.loss) for point in few.curve)


def test_time_that_is_over_leaves_one_step() -> None:
    hurried = training(MemoryKeeper())
    hurried.run(lambda: True, lambda _step: None)
    assert hurried.step == 1
    assert hurried.done


def test_the_score_is_the_largest_probability_of_the_map() -> None:
    with torch.inference_mode():
        maps, scores = training(MemoryKeeper()).scorer.eval()(tiles().float())
    assert maps.shape == (12, 4, 4)
    assert torch.equal(scores, maps.flatten(1).amax(1))
    assert float(maps.min()) > 0
    assert float(maps.max()) < 1
