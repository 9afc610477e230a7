"""The network of a FUN-AD detector: from a frozen backbone's patches to a map and a score.

FUN-AD infers with its head alone. Here two more have a larger say: the memory of normal patches, which gave
the head its pseudo-labels, and what is normal at the patch's place, a Gaussian each (PaDiM, see padim.py).
Neither is the paper's; together they are better on average than any alone (benchmarks/LOG.md).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from siftline_workers.methods import padim
from siftline_workers.methods.padim import FittedPlaces
from siftline_workers.methods.pooling import DEFECT_AREAS
from siftline_workers.methods.projection import Projection

HEAD_WEIGHT = 0.25
"""The head's say against the memory's and the places', in robust standard deviations of a normal patch."""
_LEAST = 1e-6  # added before a logarithm


class Descriptor(nn.Module):
    """Patches (B, P, D) -> their fine descriptors, of themselves alone, and those of their 3x3 surroundings.

    Both (B, P, d). A tile's surroundings end at its rim: a tile is scored alone.
    """

    def __init__(self, fine: Projection, context: Projection, grid: int) -> None:
        super().__init__()
        self.grid = grid
        for name, fitted in (("fine", fine), ("context", context)):
            self.register_buffer(f"{name}_mean", torch.from_numpy(fitted.mean))
            self.register_buffer(f"{name}_matrix", torch.from_numpy(fitted.matrix))

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        return self.described(patches, surroundings(patches, self.grid))

    def described(self, patches: Tensor, around: Tensor) -> tuple[Tensor, Tensor]:
        """Fine and context descriptors (…, d) of patches (…, D) and of their surroundings (…, D)."""
        fine: Tensor = (patches - self.get_buffer("fine_mean")) @ self.get_buffer("fine_matrix")
        context: Tensor = (around - self.get_buffer("context_mean")) @ self.get_buffer("context_matrix")
        return fine, context


def surroundings(patches: Tensor, grid: int) -> Tensor:
    """(B, P, D): mean over each patch's 3x3 surroundings in its tile, shorter at the rim."""
    batch, _, dim = patches.shape
    maps = patches.transpose(1, 2).reshape(batch, dim, grid, grid)
    return F.avg_pool2d(maps, 3, stride=1, padding=1, count_include_pad=False).flatten(2).transpose(1, 2)


class Memory(nn.Module):
    """Distance to the nearest of M normal patches, in robust standard deviations of a normal patch."""

    def __init__(self, vectors: Tensor, centre: float, spread: float) -> None:
        """`vectors` (M, d); `centre` and `spread` of a normal patch's log distance."""
        super().__init__()
        self.register_buffer("vectors", vectors.contiguous())
        self.register_buffer("scale", torch.tensor([centre, spread]))

    def forward(self, context: Tensor) -> Tensor:
        """(B, P, d) -> (B, P)."""
        vectors, scale = self.get_buffer("vectors"), self.get_buffer("scale")
        halves = vectors.square().sum(1) / 2 - context @ vectors.T
        squared = context.square().sum(2) + 2 * halves.amin(2)
        distance = squared.clamp(min=0).sqrt()
        # A patch that stands in the memory is at distance 0: as normal as can be, not infinitely so.
        return ((torch.log(distance + _LEAST) - scale[0]) / scale[1]).clamp(min=-3)


class Places(nn.Module):
    """Mahalanobis distance from what is normal where a patch lies in its tile, as `Memory` scales its own.

    No logarithm: over so many axes these distances spread evenly about their median. Whether they are worth
    hearing the training images tell: the places' say is the gain of `padim.fit`, from none at 0 to all at 1.
    """

    def __init__(self, grid: int, fitted: FittedPlaces) -> None:
        super().__init__()
        self.register_buffer("place", padim.places_of(grid, grid))
        self.register_buffer("mean", fitted.mean)
        self.register_buffer("whitening", fitted.whitening)
        self.register_buffer("scale", torch.tensor(robust_scale(fitted.distances)))
        self.register_buffer("say", torch.tensor(min(max(fitted.gain, 0.0), 1.0)))

    def forward(self, context: Tensor) -> Tensor:
        """(B, P, d') -> (B, P). The first d of the axes count."""
        place, scale = self.get_buffer("place"), self.get_buffer("scale")
        mean, whitening = self.get_buffer("mean")[place], self.get_buffer("whitening")[place]
        white = (context[:, :, : mean.shape[1]] - mean)[:, :, None] @ whitening
        return (white.square().sum((2, 3)).sqrt() - scale[0]) / scale[1]


class Head(nn.Module):
    """The trained part: d'-128-64-1, the logit of "pushed off the normal patches"."""

    def __init__(self, mean: Tensor, scale: Tensor, random: torch.Generator) -> None:
        """`mean` and `scale` (d',) bring its inputs to one size; weights are drawn from `random`."""
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        self.register_buffer("logit_scale", torch.tensor([0.0, 1.0]))
        layers = nn.Sequential(
            nn.Linear(len(mean), 128), nn.GELU(), nn.Linear(128, 64), nn.GELU(), nn.Linear(64, 1)
        )
        initialise(layers, random)
        self.layers = layers

    def prepared(self, descriptors: Tensor) -> Tensor:
        """(…, d') descriptors on the scale that noise is measured in."""
        prepared: Tensor = (descriptors - self.get_buffer("mean")) * self.get_buffer("scale")
        return prepared

    def logits(self, prepared: Tensor) -> Tensor:
        """(…, d') -> (…)."""
        logits: Tensor = self.layers(prepared)[..., 0]
        return logits

    def forward(self, descriptors: Tensor) -> Tensor:
        """(B, P, d') -> (B, P), in robust standard deviations of a normal patch."""
        scale = self.get_buffer("logit_scale")
        return (self.logits(self.prepared(descriptors)) - scale[0]) / scale[1]


def robust_scale(values: NDArray[np.float32]) -> tuple[float, float]:
    """Median and robust standard deviation; 1 where nothing varies."""
    centre = float(np.median(values))
    spread = 1.4826 * float(np.median(np.abs(values - centre)))
    return centre, spread if spread > 1e-6 else 1.0


def initialise(layers: nn.Sequential, random: torch.Generator) -> None:
    """PyTorch's own initial ranges, drawn from `random` and not from the global state."""
    with torch.no_grad():
        for layer in layers:
            if isinstance(layer, nn.Linear):
                bound = layer.in_features**-0.5
                layer.weight.uniform_(-bound, bound, generator=random)
                layer.bias.uniform_(-bound, bound, generator=random)


class FunadScorer(nn.Module):
    """Backbone patches (B, P, D) -> map (B, g, g) and score (B,)."""

    def __init__(self, descriptor: Descriptor, memory: Memory, places: Places, head: Head) -> None:
        super().__init__()
        self.descriptor, self.memory, self.places, self.head = descriptor, memory, places, head

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        fine, context = self.descriptor(patches)
        say = self.places.get_buffer("say")
        told = self.memory(context) + say * self.places(context)
        fused = (told + HEAD_WEIGHT * self.head(torch.cat([fine, context], dim=2))) / (1 + say + HEAD_WEIGHT)
        grid = self.descriptor.grid
        return fused.reshape(-1, grid, grid), pooled(fused)


def pooled(maps: Tensor) -> Tensor:
    """(B, P) -> (B,): mean over the defect areas of the mean of a tile's highest share of patches."""
    patches = maps.shape[1]
    counts = [max(1, round(area * patches)) for area in DEFECT_AREAS]
    highest = maps.topk(max(counts), dim=1).values
    return torch.stack([highest[:, :count].mean(1) for count in counts]).mean(0)


class FunadNetwork(nn.Module):
    """Tiles (B, S, S, 3) uint8 -> map (B, g, g) and score (B,): all of the way."""

    def __init__(self, embedder: nn.Module, scorer: nn.Module) -> None:
        super().__init__()
        self.embedder, self.scorer = embedder, scorer

    def forward(self, tiles: Tensor) -> tuple[Tensor, Tensor]:
        maps, scores = self.scorer(self.embedder(tiles))
        return maps, scores
