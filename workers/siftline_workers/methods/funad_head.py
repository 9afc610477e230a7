"""FUN-AD's head: trained in rounds on pseudo-labels from a memory bank that is rebuilt before each round.

See funad.py for the source and the departures. Cost of a round does not depend on the number of images: a
bounded random sample of patches is drawn from the fold, then a fixed number of updates is made on it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.adamw import adamw

from siftline_workers.methods.features import PatchFeatures, float32
from siftline_workers.methods.neighbours import NeighbourGraph
from siftline_workers.methods.pooling import pool_images, robust_z
from siftline_workers.methods.seeding import shuffled

_SAMPLE = 65_536  # patches a round learns from
_LABEL_RANGE = (-3.0, 8.0)  # robust standard deviations: beyond, more distance says nothing more


@dataclass(frozen=True, slots=True)
class FunadOptions:
    """Ablations of each are in benchmarks/LOG.md."""

    rounds: int = 2
    """Times the bank is rebuilt from the images that look normal now."""
    folds: int = 4
    steps: int = 50
    """Head updates a round."""
    batch: int = 1024
    """Patches an update."""
    smoothness: float = 0.25
    """Weight of the mutual-neighbour term."""
    bank_z: float = 1.0
    """Images up to this robust score stand in the bank."""


class Head(nn.Module):
    """dim-64-64-1, from patches on the scale of those it was trained on."""

    mean: Tensor
    scale: Tensor

    def __init__(self, dim: int, random: torch.Generator | None = None) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))
        self.layers = _new_layers(dim, random or torch.Generator())

    def prepared(self, patches: NDArray[np.float16]) -> Tensor:
        """(P, dim) as `forward` takes them."""
        return (torch.from_numpy(float32(patches)) - self.mean) * self.scale

    def forward(self, prepared: Tensor) -> Tensor:
        """(P, dim) -> (P,)"""
        predicted: Tensor = self.layers(prepared)[:, 0]
        return predicted

    @torch.no_grad()
    def predict(self, patches: NDArray[np.float16]) -> NDArray[np.float32]:
        """(P,): the pseudo-label the patches (P, dim) would get, in robust standard deviations.

        Held within what labels can be: far from all that it saw, what a head says runs off to either side.
        """
        predicted: NDArray[np.float32] = self(self.prepared(patches)).clamp(*_LABEL_RANGE).numpy()
        return predicted


class _AdamW:
    """torch's, to the last bit, but not its class: creating one imports torch's compiler, which takes longer
    than training a head.
    """

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters
        self._means = [torch.zeros_like(p) for p in parameters]
        self._squares = [torch.zeros_like(p) for p in parameters]
        self._steps = [torch.zeros(()) for _ in parameters]

    @torch.no_grad()
    def step(self, gradients: tuple[Tensor, ...]) -> None:
        adamw(
            list(self.parameters), list(gradients), self._means, self._squares, [], self._steps,
            foreach=False, amsgrad=False, beta1=0.9, beta2=0.999, lr=1e-3, weight_decay=1e-2,
            eps=1e-8, maximize=False,
        )  # fmt: skip


class HeadFit:
    """One fold's `head`: `run` trains it."""

    def __init__(
        self,
        features: PatchFeatures,
        graph: NeighbourGraph,
        training: NDArray[np.bool_],
        options: FunadOptions,
        seed: int,
        *,
        kept: NDArray[np.bool_] | None = None,
    ) -> None:
        """`training` (N,) says which images the head may see, `kept` (N,) which a person called good."""
        self._kept = np.zeros(features.n_images, bool) if kept is None else kept
        self.features, self.graph, self.training, self.options = features, graph, training, options
        self._random = torch.Generator().manual_seed(seed)
        in_order = [int(i) for i in shuffled(features.ids, seed, "funad") if training[i]]
        spans = [np.arange(features.offsets[i], features.offsets[i + 1]) for i in in_order]
        self._rows = np.concatenate(spans) if spans else np.zeros(0, np.int64)
        sample = self._rows[self._draw(len(self._rows), _SAMPLE)]
        patches = torch.from_numpy(float32(features.patches[np.sort(sample)]))
        self.head = Head(features.dim, self._random)
        if len(patches):
            spread = patches.std(0, correction=0)
            # Square root: between trusting the projection's variances and giving every axis the same say.
            scale = torch.where(spread > 0, spread.clamp(min=1e-12).rsqrt(), 0.0)
            self.head.mean = patches.mean(0)
            self.head.scale = scale / (scale * spread).square().mean().sqrt().clamp(min=1e-12)

    def run(self, warm_start: NDArray[np.float32], on_step: Callable[[int], None]) -> None:
        """All rounds. `warm_start` (N,) ranks the first bank; `on_step` gets the updates done, may raise."""
        if len(self._rows) < 2:
            return
        optimiser = _AdamW(list(self.head.parameters()))
        scores = warm_start
        for r in range(self.options.rounds):
            labels = self._pseudo_labels(scores)
            drawn = np.sort(self._draw(len(self._rows), _SAMPLE))
            patches = self.head.prepared(self.features.patches[self._rows[drawn]])
            self.features.let_go()  # the rows drawn are on nearly every page
            wanted = torch.from_numpy(labels[drawn]).clamp(*_LABEL_RANGE)
            for step in range(self.options.steps):
                self._update(optimiser, patches, wanted)
                on_step(r * self.options.steps + step + 1)
            if r + 1 < self.options.rounds:
                scores = self._image_scores()

    def _pseudo_labels(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """(fold's patches,) log distance to the bank, in robust standard deviations of the bank's own
        patches. What a person said of an image goes before: nothing on a kept one is odd. A rejected one's
        patches keep their distances, for only some of them are bad, and nobody said which.
        """
        n = len(self.training)
        in_bank = np.zeros(n, bool)
        candidates = np.flatnonzero(self.training)
        in_bank[candidates[robust_z(scores[candidates]) <= self.options.bank_z]] = True
        in_bank |= self._kept & self.training
        if self.graph.barred is not None:
            in_bank &= ~self.graph.barred
        if not in_bank.any():  # people rejected them all
            return np.zeros(len(self._rows), np.float32)
        log_distance = np.log(self.graph.bank_distance(in_bank) + 1e-6)
        of_bank = np.repeat(in_bank, np.diff(self.graph.offsets))
        reference = log_distance[of_bank]
        median = np.median(reference)
        spread = 1.4826 * np.median(np.abs(reference - median))
        if not spread > 1e-6:
            return np.zeros(len(self._rows), np.float32)
        labels: NDArray[np.float32] = ((log_distance[self._rows] - median) / spread).astype(np.float32)
        good = np.repeat(self._kept, np.diff(self.graph.offsets))[self._rows]
        labels[good] = np.minimum(labels[good], 0)
        return labels

    def _update(self, optimiser: _AdamW, patches: Tensor, wanted: Tensor) -> None:
        chosen = torch.randint(len(patches), (self.options.batch,), generator=self._random)
        batch = patches[chosen]
        predicted = self.head(batch)
        loss = F.mse_loss(predicted, wanted[chosen])
        # Pairs are looked for in a part of the batch: the term is a mean over pairs, whatever their number.
        part = self.options.batch // 4
        q, n = mutual_pairs(batch[:part])
        if len(q):
            loss = loss + self.options.smoothness * (predicted[q] - predicted[n]).abs().mean() / 2
        optimiser.step(torch.autograd.grad(loss, optimiser.parameters))

    def _image_scores(self) -> NDArray[np.float32]:
        """(N,) of the fold's own images, zero elsewhere: they choose the next bank, never the answer."""
        rows = np.zeros(self.features.n_patches, np.float32)
        for i in np.flatnonzero(self.training):
            rows[self.features.offsets[i] : self.features.offsets[i + 1]] = self.head.predict(
                self.features.of(int(i))
            )
        return pool_images(rows, self.features.offsets)

    def _draw(self, n: int, at_most: int) -> NDArray[np.int64]:
        drawn: NDArray[np.int64] = torch.randperm(n, generator=self._random)[:at_most].numpy()
        return drawn


def mutual_pairs(points: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (q, n) that are each other's nearest among `points` (n, d), every pair once, q < n."""
    if len(points) < 2:
        empty = torch.zeros(0, dtype=torch.int64)
        return empty, empty
    distance = torch.cdist(points, points)
    distance.fill_diagonal_(torch.inf)
    nearest = distance.argmin(1)
    own = torch.arange(len(points))
    mutual = (nearest[nearest] == own) & (own < nearest)
    return own[mutual], nearest[mutual]


def _new_layers(dim: int, random: torch.Generator) -> nn.Sequential:
    """dim-64-64-1 with PyTorch's own initial ranges, drawn from `random` and not from the global state."""
    head = nn.Sequential(nn.Linear(dim, 64), nn.GELU(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 1))
    with torch.no_grad():
        for layer in head:
            if isinstance(layer, nn.Linear):
                bound = layer.in_features**-0.5
                layer.weight.uniform_(-bound, bound, generator=random)
                layer.bias.uniform_(-bound, bound, generator=random)
    return head
