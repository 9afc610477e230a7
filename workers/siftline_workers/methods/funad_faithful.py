"""FUN-AD by the release's own rules, for comparison; own code.

As released: the bank is rebuilt at every step from a random half of the images whose largest patch score is
below .5 of the range, squared distances are scaled by the minimum and maximum of the batch (so every batch
has an anomaly, on clean data too), doubtful positives get noise in place, before both terms of the loss.
Not as released: the last step counts, where the release keeps the epoch that is best on the test labels; a
tile stands for an image; the number of steps is far smaller than 1,500 epochs, which no CPU gets through;
a set smaller than a batch is one batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from siftline_workers.methods.detectors import CurvePoint, Keeper
from siftline_workers.methods.funad_detector_network import initialise
from siftline_workers.methods.funad_head import mutual_pairs
from siftline_workers.methods.training_state import packed, unpack

_CHUNK = 32  # tiles looked at together
_SAVE_STEPS = 10


@dataclass(frozen=True, slots=True)
class FaithfulOptions:
    """The values of the release's main command; `steps` is ours."""

    steps: int = 60
    batch: int = 32
    """Tiles."""
    positive: float = 0.5
    confident: float = 0.9
    normal_image: float = 0.5
    bank_share: float = 0.5
    smoothness: float = 2.5
    learning_rate: float = 2e-5
    momentum: float = 0.2


class FaithfulScorer(nn.Module):
    """Patches (B, P, D) -> map (B, g, g), probabilities, and score (B,), the largest of them."""

    def __init__(self, dim: int, grid: int, random: torch.Generator) -> None:
        super().__init__()
        self.grid = grid
        self.adaptor = nn.Sequential(nn.Linear(dim, dim), nn.LeakyReLU(0.2))
        self.discriminator = nn.Sequential(
            nn.Linear(dim, 1024), nn.LeakyReLU(0.2), nn.Linear(1024, 128), nn.LeakyReLU(0.2),
            nn.Linear(128, 1), nn.Sigmoid(),
        )  # fmt: skip
        initialise(self.adaptor, random)
        initialise(self.discriminator, random)

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        p = self.discriminator(self.adaptor(patches))[..., 0]
        return p.reshape(-1, self.grid, self.grid), p.amax(1)


class FaithfulTraining:
    """`run` trains `scorer`. Same seed, same outcome, with or without kills in between."""

    def __init__(
        self, tiles: Tensor, grid: int, options: FaithfulOptions, keeper: Keeper, *, seed: int, name: str
    ) -> None:
        """`tiles` (T, P, D) float16: the patches of every tile."""
        self.tiles, self.options, self.seed = tiles, options, seed
        self.step, self.done = 0, False
        self.curve: list[CurvePoint] = []
        self._keeper, self._name = keeper, name
        self._random = torch.Generator().manual_seed(seed)
        self.scorer = FaithfulScorer(tiles.shape[2], grid, self._random)
        self._optimiser = torch.optim.RMSprop(
            self.scorer.parameters(), lr=options.learning_rate, momentum=options.momentum
        )
        self._restore()

    def run(self, out_of_time: Callable[[], bool], on_step: Callable[[int], None]) -> None:
        """Train to the last step, or one step at least when time is over. `on_step` may raise."""
        while not self.done:
            loss = self._update(self.tiles[self._batch()].float())
            self.step += 1
            self.curve.append(CurvePoint(self.step, loss))
            self.done = self.step >= self.options.steps or out_of_time()
            if self.done or self.step % _SAVE_STEPS == 0:
                self._save()
            on_step(self.step)

    def _batch(self) -> Tensor:
        """This step's tiles: every epoch in an order of its own, an incomplete last batch left out."""
        batches = max(1, len(self.tiles) // self.options.batch)
        epoch, place = divmod(self.step, batches)
        order = torch.randperm(
            len(self.tiles), generator=torch.Generator().manual_seed(self.seed + 1000 * (epoch + 1))
        )
        return order[place * self.options.batch : (place + 1) * self.options.batch]

    def _update(self, batch: Tensor) -> float:
        options = self.options
        bank = self._bank()
        with torch.no_grad():
            adapted = self.scorer.adaptor(batch).flatten(0, 1)
            distance = scaled(bank_distance(adapted, bank))
            q, n = mutual_pairs(adapted)
        positive = distance > options.positive
        doubtful = positive & (distance < options.confident)
        noise = torch.randn(batch.shape, generator=self._random).flatten(0, 1)
        spread = batch.std(0).amax(0) if len(batch) > 1 else torch.zeros(batch.shape[2])
        noised = batch.flatten(0, 1) + noise * spread * doubtful[:, None]
        p = self.scorer.discriminator(self.scorer.adaptor(noised))[:, 0]
        loss = balanced_cross_entropy(p, positive)
        if len(q):
            loss = loss + options.smoothness * (p[q] - p[n]).abs().mean() / 2
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's
        self._optimiser.step()
        return float(loss.detach())

    @torch.no_grad()
    def _bank(self) -> Tensor:
        """(m, D): all adapted patches of a random half of the tiles that look normal now."""
        scores = torch.cat([self.scorer(chunk.float())[1] for chunk in torch.split(self.tiles, _CHUNK)])
        normal = (scaled(scores) < self.options.normal_image).nonzero()[:, 0]
        count = max(1, int(self.options.bank_share * len(normal)))
        drawn = normal[torch.randperm(len(normal), generator=self._random)[:count]]
        chunks = torch.split(self.tiles[drawn], _CHUNK)
        return torch.cat([self.scorer.adaptor(chunk.float()).flatten(0, 1) for chunk in chunks])

    def _save(self) -> None:
        arrays = packed(self.scorer, self._optimiser, self._random)
        arrays["step"] = np.array([self.step, self.done])
        arrays["losses"] = np.array([point.loss for point in self.curve])
        self._keeper.save(self._name, arrays)

    def _restore(self) -> None:
        kept = self._keeper.load(self._name)
        if kept is None:
            return
        unpack(kept, self.scorer, self._optimiser, self._random)
        self.step, self.done = int(kept["step"][0]), bool(kept["step"][1])
        self.curve = [CurvePoint(step, float(loss)) for step, loss in enumerate(kept["losses"], start=1)]


def bank_distance(queries: Tensor, bank: Tensor) -> Tensor:
    """(n,) squared distance to the bank's nearest entry; below .01 that is the query itself: the second's."""
    nearest = []
    for part in torch.split(queries, 1024):
        squared = torch.cdist(part, bank).square()
        two = squared.topk(min(2, len(bank)), dim=1, largest=False).values
        two = torch.where(two < 1e-2, 0.0, two)
        nearest.append(torch.where(two[:, 0] == 0, two[:, -1], two[:, 0]))
    return torch.cat(nearest)


def scaled(values: Tensor) -> Tensor:
    """Onto 0..1 by minimum and maximum; zeros where all are equal."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else torch.zeros_like(values)


def balanced_cross_entropy(p: Tensor, positive: Tensor) -> Tensor:
    """Mean over the positives plus mean over the negatives; a kind without members is left out."""
    losses = F.binary_cross_entropy(p, positive.float(), reduction="none")
    return torch.stack([losses[kind].mean() for kind in (positive, ~positive) if kind.any()]).sum()
