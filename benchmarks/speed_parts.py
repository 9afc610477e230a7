"""The two parts that were rebuilt for speed, each against its rivals on the same features, in one run.

python -m benchmarks.speed_parts [--split magnetic_tile-rho10-seed0] [--cache DIR] [--steps 4]

Processor time of one thread throughout, the median of several: other work on the machine counts little, and
no form gains from cores that another one cannot use.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from time import thread_time
from typing import Any

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.data import load_split
from siftline.domain.scores import ScoredImages
from siftline_workers.methods import llbnad, near_duplicates, neighbours, projection
from siftline_workers.methods.backbones import load_backbone, preset_named
from siftline_workers.methods.features import PatchFeatures
from siftline_workers.methods.funad_faithful import FaithfulOptions, FaithfulTraining
from siftline_workers.methods.funad_head import FunadOptions, HeadFit
from siftline_workers.methods.neighbours import NeighbourGraph, Pool
from siftline_workers.pipeline.extract import extract
from siftline_workers.pipeline.feature_cache import FeatureCache

Search = Callable[[NDArray[np.float16]], NDArray[np.int64]]
"""An image's patches (P, d) -> (P,) the slot of the pool that each is nearest to."""

QUERIES, K = 9, 32  # images searched; entries that are looked for


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--split", default="magnetic_tile-rho10-seed0")
    parser.add_argument("--cache", type=Path, default=Path("out/benchmark-cache"))
    parser.add_argument("--steps", type=int, default=4, help="of the release's loop")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    backbone = load_backbone(preset_named("lite"), None, "cpu")
    stored = load_split(arguments.split).stored()
    features = extract(stored, backbone, FeatureCache(arguments.cache), lambda _share: None)
    reduced = projection.project(features, projection.fit(features))
    pool = neighbours.build_pool(reduced)
    print(f"{reduced.n_images} images, {reduced.n_patches} patches of {reduced.dim} dimensions", flush=True)
    compare_searches(reduced, pool)
    groups = near_duplicates.find(features)
    shard = neighbours.search_shard(reduced, pool, groups, 0, reduced.n_images)
    graph = neighbours.join([shard], reduced)
    ranking = llbnad.neighbour_scores(graph)
    fold = llbnad.subsets_of(groups, FunadOptions().folds, 0, 1)
    compare_heads(reduced, graph, ranking, fold != 0, arguments.steps)


def compare_searches(features: PatchFeatures, pool: Pool) -> None:
    bank = np.ascontiguousarray(pool.vectors.reshape(-1, features.dim))
    images = np.linspace(0, features.n_images - 1, QUERIES).astype(int)
    exact = _by_faiss(faiss.IndexFlatL2(features.dim), bank, pool)
    truth = [exact(features.of(int(i))) for i in images]
    print(
        f"\none image's patches among {len(bank)} of the pool; time to make the index, to search, agreement"
    )
    forms: dict[str, Callable[[], Search]] = {
        "blocked product, bfloat16 (kept)": lambda: _by_product(pool),
        "blocked product, int8, not re-ranked": lambda: _by_int8(pool),
        "FAISS flat": lambda: exact,
        "FAISS IVF 128, 8 probed": lambda: _by_faiss(_probing("IVF128,Flat", features.dim, 8), bank, pool),
        "FAISS IVF 128, 32 probed": lambda: _by_faiss(_probing("IVF128,Flat", features.dim, 32), bank, pool),
        "FAISS PQ 32 x 8 bits": lambda: _by_faiss(_quantised(features.dim), bank, pool),
        "FAISS HNSW 32, 64 looked at": lambda: _by_faiss(_hnsw(features.dim), bank, pool),
    }
    for name, make in forms.items():
        began = thread_time()
        search = make()
        made_s, took_s, right = thread_time() - began, [], []
        for i, nearest in zip(images, truth, strict=True):
            began = thread_time()
            found = search(features.of(int(i)))
            took_s.append(thread_time() - began)
            right.append(float((found == nearest).mean()))
        print(f"{name:38}{made_s:8.2f} s{1000 * median(took_s):9.2f} ms{np.mean(right):8.3f}", flush=True)


def _by_product(pool: Pool) -> Search:
    bank = neighbours._augmented_bank(pool)

    def search(patches: NDArray[np.float16]) -> NDArray[np.int64]:
        halves = neighbours._half_squared_to_slots(patches, bank, len(pool.image))
        return neighbours._smallest(halves, K)[1][:, 0]

    return search


def _by_int8(pool: Pool) -> Search:
    """One scale for all axes, 32-bit sums; the bank's norms are added in float32."""
    scale = 127 / float(np.quantile(np.abs(pool.vectors), 0.9999))

    def quantised(values: NDArray[np.float32]) -> torch.Tensor:
        return torch.from_numpy(np.clip(np.rint(values * scale), -127, 127).astype(np.int8))

    by_patch = np.ascontiguousarray(pool.vectors.swapaxes(0, 1).reshape(-1, pool.vectors.shape[2]))
    bank = quantised(by_patch).T.contiguous()
    norms = bank.float().square().sum(0) / 2

    def search(patches: NDArray[np.float16]) -> NDArray[np.int64]:
        product = torch._int_mm(quantised(patches.astype(np.float32)), bank)
        halves = (norms - product).view(len(patches), -1, len(pool.image)).amin(1).numpy()
        column = np.argpartition(halves, K - 1, axis=1)[:, :K]
        least = np.take_along_axis(halves, column, axis=1).argmin(axis=1)
        nearest: NDArray[np.int64] = column[np.arange(len(column)), least]
        return nearest

    return search


def _by_faiss(index: Any, bank: NDArray[np.float32], pool: Pool) -> Search:
    if index.ntotal == 0:
        index.train(bank)
        index.add(bank)
    patches_per_slot = pool.vectors.shape[1]

    def search(patches: NDArray[np.float16]) -> NDArray[np.int64]:
        found: NDArray[np.int64] = index.search(patches.astype(np.float32), K)[1][:, 0] // patches_per_slot
        return found

    return search


def _probing(kind: str, dim: int, probes: int) -> Any:
    index: Any = faiss.index_factory(dim, kind)
    index.nprobe = probes
    return index


def _quantised(dim: int) -> Any:
    return faiss.IndexPQ(dim, 32, 8)


def _hnsw(dim: int) -> Any:
    index: Any = faiss.IndexHNSWFlat(dim, 32)
    index.hnsw.efSearch = 64
    return index


class _Forgetful:
    """A Keeper that keeps nothing."""

    def load(self, name: str) -> Mapping[str, NDArray[Any]] | None:  # noqa: ARG002 - the protocol names it
        return None

    def save(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        pass


def compare_heads(
    features: PatchFeatures,
    graph: NeighbourGraph,
    ranking: ScoredImages,
    training: NDArray[np.bool_],
    steps: int,
) -> None:
    """The release rebuilds its bank and makes one update at each step; ours rebuilds it before each round."""
    options = FunadOptions()
    began = thread_time()
    fit = HeadFit(features, graph, training, options, 0)
    fit.run(ranking.aligned_to(features.ids), lambda _steps: None)
    for i in np.flatnonzero(~training):
        fit.head.predict(features.of(int(i)))
    ours_s = thread_time() - began
    updates, banks = options.rounds * options.steps, options.rounds
    tiles = torch.from_numpy(np.array(features.patches)).view(features.n_images, -1, features.dim)
    release = FaithfulTraining(tiles, 16, FaithfulOptions(steps=steps), _Forgetful(), seed=0, name="")
    bank_s: list[float] = []
    rebuild = release._bank

    def timed() -> torch.Tensor:
        start = thread_time()
        bank = rebuild()
        bank_s.append(thread_time() - start)
        return bank

    release._bank = timed  # type: ignore[method-assign]  # to time it
    began = thread_time()
    release.run(lambda: False, lambda _step: None)
    step_s = (thread_time() - began) / steps
    a_bank, an_update = median(bank_s), step_s - median(bank_s)
    print(f"\nFUN-AD, a fold: {ours_s:.2f} s for {updates} updates of {options.batch} patches, {banks} banks")
    print(f"release: {a_bank:.2f} s a bank, {an_update:.2f} s an update of {len(tiles[0]) * 32} patches")
    rebuilt = banks * a_bank
    for name, seconds in {
        "as many updates, a bank for each as released": updates * step_s,
        "as many updates and as many banks": updates * an_update + rebuilt,
        "as many patches learned from, as many banks": (
            updates * options.batch / (32 * len(tiles[0])) * an_update + rebuilt
        ),
    }.items():
        print(f"the release, {name}: {seconds:.0f} s, {seconds / ours_s:.0f} times ours")


if __name__ == "__main__":
    main()
