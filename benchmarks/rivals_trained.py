"""Rankings to beat that train a network: MeDS, and FUN-AD by its release's own loop.

MeDS after Safarov et al. (ICML 2026, arXiv 2605.26676) from its description, own code, on our features and
small enough for a CPU: a stated number of steps, not the authors' budget. Run with OMP_NUM_THREADS=1 on
processors that others use too: small products spread over busy cores wait for each other.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.case import Case
from benchmarks.quality import Row, ordering
from benchmarks.rivals import graph_of
from siftline_workers.methods.features import PatchFeatures
from siftline_workers.methods.funad_faithful import FaithfulOptions, FaithfulTraining
from siftline_workers.methods.neighbours import NeighbourGraph
from siftline_workers.methods.pooling import pool_images
from siftline_workers.pipeline.checkpoints import Checkpoints

_MEMORY_SHARE = 0.1
_BATCH = 16
_DISTILLING = 150
_SELECTING = 150
RELEASED_STEPS = 5
"""Of FUN-AD's loop, several seconds each here. The release makes some 35,000 on a set of this size."""


def meds(case: Case) -> Row:
    """AUROC and AP after each of the three steps. ValueError for images of several grids."""
    truth = case.split.anomalous
    if not truth.any():
        return {}
    unit = _unit(case.projected)
    memory = _sparse_memories(graph_of(unit, np.arange(unit.n_images)))
    distilled, selected = _distil_and_select(unit, memory)
    row: Row = {}
    for step, patches in enumerate((memory, distilled, selected), start=1):
        scores = pool_images(patches, unit.offsets, (0.01,))
        row |= {f"MeDS step {step} {key}": value for key, value in ordering(truth, scores).items()}
    return row


def funad_as_released(case: Case) -> Row:
    """AUROC and AP of the last of few steps: the release keeps the best on the test labels, we do not."""
    truth, features = case.split.anomalous, case.projected
    if not truth.any():
        return {}
    grid = _one_grid(features)[0]
    tiles = torch.from_numpy(np.asarray(features.patches)).view(features.n_images, -1, features.dim)
    with tempfile.TemporaryDirectory() as folder:
        keeper = Checkpoints(Path(folder), "benchmark")
        options = FaithfulOptions(steps=RELEASED_STEPS)
        training = FaithfulTraining(tiles, grid, options, keeper, seed=0, name="released")
        training.run(lambda: False, lambda _step: None)
    with torch.no_grad():
        scores = torch.cat([training.scorer(part.float())[1] for part in torch.split(tiles, 32)])
    name = f"FUN-AD as released, {RELEASED_STEPS} steps"
    return {f"{name} {key}": value for key, value in ordering(truth, scores.numpy()).items()}


def _one_grid(features: PatchFeatures) -> tuple[int, int]:
    if len(np.unique(features.grids, axis=0)) != 1:
        raise ValueError("the rival's network needs one grid for all images")
    return features.grid(0)


def _unit(features: PatchFeatures) -> PatchFeatures:
    """Rows of length 1: half the squared distance of two is their cosine distance."""
    rows = features.patches.astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True) + 1e-6
    return PatchFeatures(features.ids, rows.astype(np.float16), features.offsets, features.grids)


def _sparse_memories(graph: NeighbourGraph) -> NDArray[np.float32]:
    """(patches,) mean cosine distance to memories of a random tenth of the other images, over all of them.

    The authors average a hundred; in the limit the j-th nearest image is the nearest one in the memory with
    probability .1 * .9^j.
    """
    k = graph.distances.shape[1]
    weight = _MEMORY_SHARE * (1 - _MEMORY_SHARE) ** np.arange(k)
    weight[-1] = (1 - _MEMORY_SHARE) ** (k - 1)  # none of those known: at least as far as the last
    squared = np.where(np.isfinite(graph.distances), graph.distances, 2).astype(np.float32) ** 2
    mean: NDArray[np.float32] = (squared @ weight / 2).astype(np.float32)
    return mean


def _distil_and_select(
    unit: PatchFeatures, memory: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(patches,) after step 2, a reconstruction whose error predicts the memories' map, and after step 3, the
    same trained on by plain reconstruction of the images that look normal then.
    """
    rows, columns = _one_grid(unit)
    maps = torch.from_numpy(unit.patches.astype(np.float32)).view(-1, rows, columns, unit.dim)
    maps = maps.permute(0, 3, 1, 2).contiguous()
    wanted = torch.from_numpy(memory).view(-1, rows, columns)
    random = torch.Generator().manual_seed(0)
    network = _reconstruction(unit.dim, random)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    everyone = torch.arange(len(maps))
    for _ in range(_DISTILLING):
        chosen = _drawn(everyone, random)
        error = F.mse_loss(_errors(network, maps[chosen]), wanted[chosen])
        _step(optimiser, error)
    distilled = _all_errors(network, maps)
    selected = everyone
    for step in range(_SELECTING):
        if step % 25 == 0:
            fading = min(1.0, step / (_SELECTING / 2))
            blend = (1 - fading) * _image_scores(distilled) + fading * _image_scores(
                _all_errors(network, maps)
            )
            spread = (blend - blend.median()).abs().median()
            selected = (blend < blend.median() + 3 * spread).nonzero()[:, 0]
        _step(optimiser, _errors(network, maps[_drawn(selected, random)]).mean())
    return distilled.flatten().numpy(), _all_errors(network, maps).flatten().numpy()


def _reconstruction(dim: int, random: torch.Generator) -> nn.Sequential:
    network = nn.Sequential(
        nn.Conv2d(dim, 64, 1), nn.GELU(), nn.Conv2d(64, 64, 3, stride=2, padding=1), nn.GELU(),
        nn.Upsample(scale_factor=2), nn.Conv2d(64, 64, 3, padding=1), nn.GELU(), nn.Conv2d(64, dim, 1),
    )  # fmt: skip
    with torch.no_grad():
        for weights in network.parameters():
            bound = weights[0].numel() ** -0.5 if weights.ndim > 1 else 0.0
            weights.uniform_(-bound, bound, generator=random)
    return network


def _drawn(images: Tensor, random: torch.Generator) -> Tensor:
    return images[torch.randint(len(images), (_BATCH,), generator=random)]


def _errors(network: nn.Module, maps: Tensor) -> Tensor:
    """(B, rows, columns): cosine distance between the maps and what the network makes of them."""
    return 1 - F.cosine_similarity(maps, network(maps), dim=1)


@torch.no_grad()
def _all_errors(network: nn.Module, maps: Tensor) -> Tensor:
    return torch.cat([_errors(network, part) for part in torch.split(maps, 64)])


def _image_scores(errors: Tensor) -> Tensor:
    patches = errors.flatten(1)
    return patches.topk(max(1, round(0.01 * patches.shape[1])), dim=1).values.mean(1)


def _step(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]  # torch's
    optimiser.step()
