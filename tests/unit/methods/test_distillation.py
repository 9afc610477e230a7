"""Reverse distillation's networks, loss and map."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor

from siftline_workers.methods.backbones import PRESETS, Preset, load_embedder, preset_named
from siftline_workers.methods.distillation import (
    FlatTeacher,
    Student,
    Teacher,
    anomaly_map,
    distance,
    new_student,
    stages_of,
)


def test_wide_resnet_gives_the_shapes_of_rd4ad() -> None:
    stages = stages_of(PRESETS["wrn50"])
    assert stages.shapes == ((256, 64, 64), (512, 32, 32), (1024, 16, 16))
    with torch.device("meta"):
        student = Student(stages, blocks=3)
        maps = [torch.zeros(2, *shape) for shape in stages.shapes]
        gathered = [bring(m) for bring, m in zip(student.gather, maps, strict=True)]
        assert [tuple(g.shape[1:]) for g in gathered] == 3 * [(1024, 16, 16)]
        assert student.embed(torch.cat(gathered, dim=1)).shape == (2, 2048, 8, 8)
        assert [tuple(guess.shape[1:]) for guess in student(maps)] == list(stages.shapes)
    layers = [layer for layer in student.gather[0].modules() if isinstance(layer, torch.nn.Conv2d)]
    assert [(layer.in_channels, layer.out_channels) for layer in layers] == [(256, 512), (512, 1024)]


@pytest.mark.parametrize(
    "name", ["lite", "wrn50", "timm:resnet18", "timm:convnext_tiny", "timm:vit_tiny_patch16_224"]
)
def test_the_stages_are_what_the_network_really_gives(name: str) -> None:
    preset = preset_named(name)
    stages = stages_of(preset)
    with torch.device("meta"):
        network: Any = timm.create_model(preset.timm_name, num_classes=0)
        pixels = torch.zeros(1, 3, preset.side, preset.side)
        maps = network.forward_intermediates(pixels, indices=list(stages.indices), intermediates_only=True)
        student = Student(stages, blocks=1)
        guesses = student([torch.zeros(2, *m.shape[1:]) for m in maps])
    assert [tuple(m.shape[1:]) for m in maps] == list(stages.shapes)
    assert [tuple(guess.shape[1:]) for guess in guesses] == list(stages.shapes)


def test_a_network_without_three_halving_stages_is_refused() -> None:
    preset = dataclasses.replace(PRESETS["lite"], timm_name="vgg11", side=64)
    shallow = dataclasses.replace(preset, timm_name="no_such_network")
    with pytest.raises(ValueError, match="does not know"):
        stages_of(shallow)
    assert stages_of(preset).indices  # five halving stages: enough


def test_a_kept_row_gives_the_teachers_maps_back() -> None:
    preset: Preset = PRESETS["lite"]
    stages = stages_of(preset)
    teacher = Teacher(load_embedder(preset, None), stages)
    tiles = torch.randint(
        0, 256, (2, 256, 256, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    with torch.inference_mode():
        rows = FlatTeacher(teacher)(tiles)
        assert rows.shape == (2, 1, stages.dim)
        for kept, given in zip(stages.maps(rows[:, 0]), teacher(tiles), strict=True):
            assert torch.equal(kept, given)


def some_maps(seed: int) -> list[Tensor]:
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(3, c, s, s, generator=random) for c, s in ((8, 32), (16, 16), (24, 8))]


def test_the_loss_is_the_cosine_of_flattened_maps_summed_over_stages() -> None:
    wanted, guesses = some_maps(0), some_maps(1)
    expected = sum(
        (1 - torch.nn.functional.cosine_similarity(a.flatten(1), b.flatten(1))).mean()
        for a, b in zip(wanted, guesses, strict=True)
    )
    assert float(distance(wanted, guesses)) == pytest.approx(float(expected), rel=1e-5)
    assert float(distance(wanted, wanted)) == pytest.approx(0, abs=1e-5)


def test_the_map_shows_where_the_student_is_wrong() -> None:
    wanted = some_maps(0)
    guesses = [m.clone() for m in wanted]
    assert float(anomaly_map(wanted, guesses).abs().max()) < 1e-4
    guesses[0][1, :, 20, 5] *= -1
    found = anomaly_map(wanted, guesses)
    assert found.shape == (3, 32, 32)
    assert int(found[1].argmax()) == 20 * 32 + 5
    assert float(found[[0, 2]].abs().max()) < 1e-4


def test_the_map_is_smoothed_by_four_pixels_of_256() -> None:
    """Which is one cell of 64. Away from the rim a place is the mean around it under a Gaussian."""
    wanted = [torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(0))]
    guesses = [torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(1))]
    apart = 1 - torch.nn.functional.cosine_similarity(wanted[0], guesses[0], dim=1)[0].numpy()
    found = anomaly_map(wanted, guesses)[0].numpy()
    rows, columns = np.mgrid[0:64, 0:64]
    for y, x in ((10, 10), (30, 50), (55, 8)):
        weight = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 2)
        assert found[y, x] == pytest.approx((weight * apart).sum() / weight.sum(), abs=1e-3)


def test_a_student_follows_its_seed_and_not_the_global_state() -> None:
    stages = stages_of(PRESETS["lite"])
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = new_student(stages, 1, torch.Generator().manual_seed(7)).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    same = new_student(stages, 1, torch.Generator().manual_seed(7)).state_dict()
    other = new_student(stages, 1, torch.Generator().manual_seed(8)).state_dict()
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)
    assert all(bool(t.isfinite().all()) for t in one.values())
