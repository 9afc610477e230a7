"""Reverse distillation: a student redraws a frozen teacher's features from a narrow summary of them.

After Deng and Li, "Anomaly Detection via Reverse Distillation from One-Class Embedding" (CVPR 2022, arXiv
2201.10703); own code. What the student has never seen it cannot redraw: where teacher and student differ,
there is an anomaly. All sizes follow from the teacher's `feature_info` by one rule:
the deepest three stages of at most 1,024 channels; a stage is brought to the next one's size by one stride-2
convolution with the next one's channels; the bottleneck is the teacher's following stage, at half the size.
For WideResNet-50-2 these are RD4AD's shapes.

One departure: every stage ends in a 1x1 convolution without activation, because other teachers than a ResNet
have features of both signs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from siftline_workers.methods.backbones import PatchEmbedder, Preset

_WIDEST = 1024  # channels: a student's size grows with their square, and RD4AD leaves out the 2,048 ones


@dataclass(frozen=True, slots=True)
class Stages:
    """The teacher's three stages that are distilled, finest first."""

    indices: tuple[int, ...]
    """As `forward_intermediates` counts."""
    channels: tuple[int, ...]
    sides: tuple[int, ...]
    """Each map is `side` x `side`."""
    bottleneck: int
    """Channels of the summary, at half the last side."""

    @property
    def shapes(self) -> tuple[tuple[int, int, int], ...]:
        return tuple((c, s, s) for c, s in zip(self.channels, self.sides, strict=True))

    @property
    def dim(self) -> int:
        """Numbers of a tile, all stages flattened."""
        return sum(c * h * w for c, h, w in self.shapes)

    def maps(self, rows: Tensor) -> list[Tensor]:
        """(B, dim) as `flattened` gives them -> each stage's (B, C, h, w) float32, channels last."""
        parts = torch.split(rows, [c * h * w for c, h, w in self.shapes], dim=1)
        return [
            part.reshape(-1, h, w, c).float().permute(0, 3, 1, 2)
            for part, (c, h, w) in zip(parts, self.shapes, strict=True)
        ]


def stages_of(preset: Preset) -> Stages:
    """Which stages of a teacher are distilled. ValueError when it has none that fit.

    A plain transformer has one resolution: then the last block of each third of the network.
    """
    import timm  # noqa: PLC0415 - takes seconds, and most runs need none

    try:
        with torch.device("meta"):
            network: Any = timm.create_model(preset.timm_name, pretrained=False, num_classes=0)
    except RuntimeError as error:
        raise ValueError(f"timm does not know a network {preset.timm_name!r}") from error
    info = [(int(stage["num_chs"]), int(stage["reduction"])) for stage in network.feature_info]
    strides = [stride for _, stride in info]
    if len(set(strides)) == 1 and len(info) >= 3:
        indices = tuple(len(info) * third // 3 - 1 for third in (1, 2, 3))
    else:
        indices = tuple(i for i, (channels, _) in enumerate(info) if channels <= _WIDEST)[-3:]
        if len(indices) < 3 or any(strides[b] != 2 * strides[a] for a, b in pairwise(indices)):
            raise ValueError(f"{preset.timm_name} has no three stages, each half the size of the one before")
    channels = tuple(info[i][0] for i in indices)
    sides = tuple(preset.side // strides[i] for i in indices)
    after = indices[-1] + 1
    follows = after < len(info) and strides[after] == 2 * strides[indices[-1]]
    return Stages(indices, channels, sides, info[after][0] if follows else 2 * channels[-1])


class Teacher(nn.Module):
    """Tiles (B, S, S, 3) uint8 -> the frozen network's maps of the three stages."""

    mean: Tensor
    std: Tensor

    def __init__(self, embedder: PatchEmbedder, stages: Stages) -> None:
        super().__init__()
        self.network = embedder.network
        self.register_buffer("mean", embedder.mean)
        self.register_buffer("std", embedder.std)
        self.options = {
            "indices": list(stages.indices),
            "norm": embedder.preset.final_norm,
            "stop_early": True,
            "intermediates_only": True,
        }

    def forward(self, tiles: Tensor) -> list[Tensor]:
        pixels = (tiles.permute(0, 3, 1, 2).to(torch.float32) - self.mean) / self.std
        maps: list[Tensor] = self.network.forward_intermediates(pixels, **self.options)
        return maps


class FlatTeacher(nn.Module):
    """Tiles -> (B, 1, dim): one row a tile, so that features are kept as any backbone's patches are."""

    def __init__(self, teacher: Teacher) -> None:
        super().__init__()
        self.teacher = teacher

    def forward(self, tiles: Tensor) -> Tensor:
        return torch.cat([m.permute(0, 2, 3, 1).flatten(1) for m in self.teacher(tiles)], dim=1)[:, None]


class Distilled(nn.Module):
    """The detector whole: tiles (B, S, S, 3) uint8 -> (map (B, g, g), score (B,)), high = anomalous."""

    def __init__(self, teacher: Teacher, student: Student) -> None:
        super().__init__()
        self.teacher = teacher
        self.student = student

    def forward(self, tiles: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.teacher(tiles)
        found = anomaly_map(maps, self.student(maps))
        return found, found.amax((1, 2))


def distance(wanted: Sequence[Tensor], guesses: Sequence[Tensor]) -> Tensor:
    """RD4AD's loss: over stages, the mean over the batch of 1 - cosine of the two maps, flattened."""
    parts = []
    for a, b in zip(wanted, guesses, strict=True):
        norms = a.square().sum((1, 2, 3)) * b.square().sum((1, 2, 3))
        parts.append(1 - (a * b).sum((1, 2, 3)) * norms.clamp(min=1e-12).rsqrt())
    return torch.stack(parts).sum(0).mean()


def anomaly_map(wanted: Sequence[Tensor], guesses: Sequence[Tensor]) -> Tensor:
    """(B, g, g): 1 - cosine at each place, summed over the stages at the finest one's grid, smoothed.

    RD4AD smooths with a Gaussian of 4 pixels of 256; here the same share of the grid.
    """
    grid = wanted[0].shape[-1]
    total = torch.zeros(())
    for a, b in zip(wanted, guesses, strict=True):
        apart = 1 - F.cosine_similarity(a, b, dim=1, eps=1e-6)[:, None]
        total = total + F.interpolate(apart, size=(grid, grid), mode="bilinear", align_corners=True)
    kernel = _gaussian(grid / 64).to(total)
    reach = kernel.shape[-1] // 2
    padded = F.pad(total, (reach, reach, reach, reach), mode="reflect")
    return F.conv2d(F.conv2d(padded, kernel), kernel.transpose(2, 3))[:, 0]


def _gaussian(sigma: float) -> Tensor:
    """(1, 1, 1, k), cut at four sigma as scipy does."""
    reach = int(4 * sigma + 0.5)
    places = torch.arange(-reach, reach + 1, dtype=torch.float32)
    weights = torch.exp(-(places / sigma).square() / 2)
    return (weights / weights.sum()).view(1, 1, 1, -1)


class Student(nn.Module):
    """Bottleneck (OCBE) and mirrored decoder: a teacher's three maps in, its guess of the same three out."""

    def __init__(self, stages: Stages, blocks: int) -> None:
        """`blocks` residual blocks a stage."""
        super().__init__()
        channels = [*stages.channels, stages.bottleneck]
        # Scale between a stage and the next; the bottleneck always halves.
        steps = [a // b for a, b in pairwise(stages.sides)] + [2]
        last = stages.channels[-1]
        self.gather = nn.ModuleList(
            nn.Sequential(*(_down(channels[j], channels[j + 1], steps[j]) for j in range(i, len(steps) - 1)))
            for i in range(len(stages.channels))
        )
        self.embed = _stage(last * len(stages.channels), stages.bottleneck, steps[-1], blocks, up=False)
        order = range(len(steps) - 1, -1, -1)
        self.redraw = nn.ModuleList(
            _stage(channels[i + 1], channels[i], steps[i], blocks, up=True) for i in order
        )
        self.out = nn.ModuleList(nn.Conv2d(channels[i], channels[i], 1) for i in order)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        x = torch.cat([bring(m) for bring, m in zip(self.gather, maps, strict=True)], dim=1)
        x = self.embed(x)
        guesses = []
        for draw, out in zip(self.redraw, self.out, strict=True):
            x = draw(x)
            guesses.append(out(x))
        return guesses[::-1]


def new_student(stages: Stages, blocks: int, random: torch.Generator) -> Student:
    """Initialised from `random` and not from torch's global state."""
    with torch.device("meta"):
        student = Student(stages, blocks)
    student.to_empty(device="cpu")
    with torch.no_grad():
        for module in student.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=random)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()
    return student.to(memory_format=torch.channels_last)


def _down(inside: int, outside: int, step: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, step, 1, bias=False), nn.BatchNorm2d(outside), nn.ReLU()
    )


def _stage(inside: int, outside: int, step: int, blocks: int, *, up: bool) -> nn.Sequential:
    first = _Residual(inside, outside, step, up)
    return nn.Sequential(first, *(_Residual(outside, outside, 1, up) for _ in range(blocks - 1)))


class _Residual(nn.Module):
    """The residual bottleneck block of a wide ResNet: 1x1, 3x3 of half the channels, 1x1."""

    def __init__(self, inside: int, outside: int, step: int, up: bool) -> None:
        super().__init__()
        middle = outside // 2
        self.body = nn.Sequential(
            nn.Conv2d(inside, middle, 1, bias=False),
            nn.BatchNorm2d(middle),
            nn.ReLU(),
            _resized(middle, middle, 3, step, up),
            nn.BatchNorm2d(middle),
            nn.ReLU(),
            nn.Conv2d(middle, outside, 1, bias=False),
            nn.BatchNorm2d(outside),
        )
        self.skip = (
            nn.Identity()
            if inside == outside and step == 1
            else nn.Sequential(_resized(inside, outside, 1, step, up), nn.BatchNorm2d(outside))
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.skip(x))


def _resized(inside: int, outside: int, kernel: int, step: int, up: bool) -> nn.Module:
    """A convolution that changes the side by `step`; growing is transposed with a 2x2 kernel, as in RD4AD."""
    if up and step == 2:
        return nn.ConvTranspose2d(inside, outside, 2, 2, bias=False)
    return nn.Conv2d(inside, outside, kernel, step, kernel // 2, bias=False)
