"""One head's training on a set taken for normal: pseudo-labels from a memory that is rebuilt once.

FUN-AD's parts (see funad.py for the source): the memory is made of the images that look normal now, distances
to it label patches, doubtful ones are pushed off by Gaussian noise, balanced cross-entropy, smoothness over
mutual nearest pairs, the last head counts. What a purified set changes: it has next to no anomalies to learn
from, and the few patches that are far from the rest are rare normal ones as often (taken as positives they
cost .01 on a clean set, so they are left out of both sides). A head shown only normal patches says nothing of
others; so half of every batch are normal patches pushed off by noise of many sizes, labelled anomalous, as
SimpleNet does (Liu et al., CVPR 2023, arXiv 2303.15140).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from siftline_workers.methods.detectors import CurvePoint, Keeper
from siftline_workers.methods.funad_detector_data import HeadData
from siftline_workers.methods.funad_detector_network import (
    HEAD_WEIGHT,
    FunadScorer,
    Head,
    Memory,
    robust_scale,
)
from siftline_workers.methods.funad_head import mutual_pairs
from siftline_workers.methods.neighbours import search_precision
from siftline_workers.methods.pooling import pool_images, robust_z
from siftline_workers.methods.training_state import packed, unpack

_SAVE_STEPS = 200
_CURVE_STEPS = 20


@dataclass(frozen=True, slots=True)
class HeadOptions:
    """Ablations of each are in benchmarks/LOG.md."""

    steps: int = 600
    batch: int = 1024
    """Normal patches an update; as many are pushed off."""
    noise: float = 0.35
    """Its middle size: standard deviations of a descriptor's axis. Sizes are spread over half to double."""
    smoothness: float = 0.25
    """Weight of the mutual-neighbour term."""
    memory_z: float = 6.0
    """Images up to this robust score stand in the memory."""
    suspected_z: float = 3.0
    """Patches beyond it are no normal ones to learn from, whatever their image."""
    learning_rate: float = 1e-3


class HeadTraining:
    """`run`, then `scorer`. Same seed, same outcome, with or without kills in between."""

    def __init__(
        self,
        data: HeadData,
        options: HeadOptions,
        keeper: Keeper,
        *,
        seed: int,
        name: str,
    ) -> None:
        """`name`: what `keeper` has it under."""
        self.data, self.options = data, options
        self.step, self.done = 0, False
        self.curve: list[CurvePoint] = []
        self._keeper, self._name = keeper, name
        self._random = torch.Generator().manual_seed(seed)
        self._head = _new_head(data.descriptors, self._random)
        self._inputs = self._head.prepared(data.descriptors)
        self._image = np.repeat(np.arange(len(data.graph.ids)), np.diff(data.offsets))
        self._optimiser = torch.optim.AdamW(self._head.parameters(), lr=options.learning_rate, fused=True)
        self._losses: list[float] = []
        self._remember(np.ones(len(data.graph.ids), bool))
        self._remember(self._looking_normal(self._distances))
        self._restore()

    def run(self, out_of_time: Callable[[], bool], on_step: Callable[[int], None]) -> None:
        """Train to the last step, or one step at least when time is over. `on_step` may raise."""
        while not self.done:
            if self.step == self.options.steps // 2:
                self._remember(self._looking_normal(self._fused()))
            self._update()
            self.step += 1
            self.done = self.step >= self.options.steps or out_of_time()
            if self.done or len(self._losses) == _CURVE_STEPS:
                self.curve.append(CurvePoint(self.step, float(np.mean(self._losses))))
                self._losses = []
            if self.done or self.step % _SAVE_STEPS == 0:
                self._save()
            on_step(self.step)

    def scorer(self) -> FunadScorer:
        """The network as trained."""
        slots = self._in_memory[self.data.pool.image]
        vectors = self.data.pool.vectors[slots]
        memory = Memory(torch.from_numpy(vectors).flatten(0, 1), self._centre, self._spread)
        self._fused()  # sets the head's scale
        return FunadScorer(self.data.descriptor, memory, self.data.places, self._head).eval()

    def _remember(self, in_memory: NDArray[np.bool_]) -> None:
        """Make the memory of these images, and pseudo-labels of the distances to it."""
        self._in_memory = in_memory
        log_distance = np.log(self.data.graph.bank_distance(in_memory) + 1e-6)
        self._centre, self._spread = robust_scale(log_distance[in_memory[self._image]])
        self._distances = ((log_distance - self._centre) / self._spread).astype(np.float32)
        self._normal = torch.from_numpy(np.flatnonzero(self._distances <= self.options.suspected_z))

    def _looking_normal(self, patch_scores: NDArray[np.float32]) -> NDArray[np.bool_]:
        """(n,): the images that look normal by their sampled patches' scores."""
        pooled = pool_images(patch_scores, self.data.offsets)
        return robust_z(pooled) <= self.options.memory_z

    @torch.no_grad()
    def _fused(self) -> NDArray[np.float32]:
        """(rows,) of memory and head alone, fused as in the detector; puts the head on its scale."""
        logits = self._head.logits(self._inputs).numpy()
        centre, spread = robust_scale(logits[self._normal.numpy()])
        self._head.get_buffer("logit_scale").copy_(torch.tensor([centre, spread]))
        fused: NDArray[np.float32] = self._distances + HEAD_WEIGHT * (logits - centre) / spread
        return fused

    def _update(self) -> None:
        options = self.options
        drawn = torch.randint(len(self._normal), (options.batch,), generator=self._random)
        normal = self._inputs[self._normal[drawn]]
        size = options.noise * torch.exp2(2 * torch.rand(len(normal), 1, generator=self._random) - 1)
        positive = normal + size * torch.randn(normal.shape, generator=self._random)
        # Where the processor multiplies bfloat16 itself, 7 ms an update instead of 12.
        with torch.autocast("cpu", torch.bfloat16, enabled=search_precision() == torch.bfloat16):
            logits = self._head.logits(torch.cat([normal, positive])).float()
        loss = F.softplus(logits[: len(normal)]).mean() + F.softplus(-logits[len(normal) :]).mean()
        self._losses.append(float(loss.detach()))
        part = options.batch // 4  # the term is a mean over pairs, whatever their number
        q, n = mutual_pairs(normal[:part])
        if len(q):
            p = logits[:part].sigmoid()
            loss = loss + options.smoothness * (p[q] - p[n]).abs().mean() / 2
        for group in self._optimiser.param_groups:
            group["lr"] = options.learning_rate * (1 - self.step / options.steps)
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's
        self._optimiser.step()

    def _save(self) -> None:
        arrays = packed(self._head.layers, self._optimiser, self._random)
        arrays["in_memory"] = self._in_memory
        arrays["step"] = np.array([self.step, self.done])
        arrays["curve"] = np.array([[point.step, point.loss] for point in self.curve]).reshape(-1, 2)
        arrays["losses"] = np.array(self._losses)
        self._keeper.save(self._name, arrays)

    def _restore(self) -> None:
        kept = self._keeper.load(self._name)
        if kept is None:
            return
        unpack(kept, self._head.layers, self._optimiser, self._random)
        self._remember(kept["in_memory"])
        self.step, self.done = int(kept["step"][0]), bool(kept["step"][1])
        self.curve = [CurvePoint(int(step), float(loss)) for step, loss in kept["curve"]]
        self._losses = kept["losses"].tolist()


def _new_head(sample: Tensor, random: torch.Generator) -> Head:
    spread = sample.std(0, correction=0)
    # Square root: between trusting the projection's variances and giving every axis the same say.
    scale = torch.where(spread > 1e-6, spread.clamp(min=1e-12).rsqrt(), 0.0)
    scale = scale / (scale * spread).square().mean().sqrt().clamp(min=1e-12)
    return Head(sample.mean(0), scale, random)
