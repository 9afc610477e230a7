"""A graph brought up to date says what one from nothing says, whatever was kept and wherever it broke off."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from siftline_workers.methods import llbnad, neighbours
from siftline_workers.methods.features import PatchFeatures
from siftline_workers.methods.near_duplicates import NearDuplicates
from siftline_workers.methods.neighbours import NeighbourGraph, NeighbourShard, Pool
from siftline_workers.methods.seeding import ignore_progress
from siftline_workers.pipeline import descriptions
from siftline_workers.pipeline.checkpoints import Checkpoints
from siftline_workers.pipeline.descriptions import Basis
from siftline_workers.pipeline.graph import Grouped, grouped, neighbour_graph
from tests.unit.methods.synthetic import picked, texture_images

BEFORE, AFTER, ODD = 150, 180, 3


def grown_set() -> PatchFeatures:
    """The first 150 images were there before; of the last 30 three are odd, two show what earlier ones do."""
    features = texture_images(AFTER, odd=ODD + 2)
    order = [*range(AFTER - 2), 3, 7]
    return picked(features, order, [f"image-{place:03d}" for place in range(AFTER)])


def made(
    features: PatchFeatures, pieces: Path, run: Path, *, basis: int, stop_at: float = np.inf
) -> tuple[Grouped, NeighbourGraph]:
    def progress(share: float) -> None:
        if share > stop_at:
            raise InterruptedError

    first, checkpoints = Basis(basis, Checkpoints(pieces, "basis")), Checkpoints(run, "run")
    earlier = descriptions.kept(first, features.ids) if basis < features.n_images else None
    if earlier:
        features = picked(features, [*range(basis, features.n_images)], list(features.ids[basis:]))
    found = descriptions.described(features, first, earlier, seed=0, progress=ignore_progress)
    reduced = found.projected()
    groups = grouped(reduced.ids, found.sketches(), first, 0)
    return groups, neighbour_graph(reduced, groups, first, checkpoints, seed=0, progress=progress)


def test_what_was_kept_and_where_it_broke_off_changes_nothing(tmp_path: Path) -> None:
    features = grown_set()
    made(features.first(BEFORE), tmp_path / "kept", tmp_path / "a", basis=BEFORE)
    folder = tmp_path / "kept" / "basis"
    kept = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    runs = {f"{kind}-{start}.npz" for kind in ("images", "neighbours") for start in ("0000000", "0000128")}
    assert set(kept) == {"projection.npz", "scale.npz", "alike.npz", *runs}
    with pytest.raises(InterruptedError):
        made(features, tmp_path / "kept", tmp_path / "b", basis=BEFORE, stop_at=0.8)
    updated = made(features, tmp_path / "kept", tmp_path / "b", basis=BEFORE)
    assert kept == {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    (folder / "neighbours-0000128.npz").write_bytes(b"torn")
    (folder / "images-0000000.npz").write_bytes(b"torn, too")
    (folder / "images-0000000.npz").write_bytes(b"torn, too")
    repaired = made(features, tmp_path / "kept", tmp_path / "c", basis=BEFORE)
    with pytest.raises(InterruptedError):
        made(features, tmp_path / "new", tmp_path / "d", basis=BEFORE, stop_at=0.5)
    from_nothing = made(features, tmp_path / "new", tmp_path / "d", basis=BEFORE)
    for groups, graph in (repaired, from_nothing):
        assert (groups.all.group == updated[0].all.group).all()
        assert (graph.distances == updated[1].distances).all()
        assert (graph.images == updated[1].images).all()


def test_it_comes_near_to_statistics_of_all_images(tmp_path: Path) -> None:
    features = grown_set()
    groups, updated = made(features, tmp_path / "a", tmp_path / "b", basis=BEFORE)
    all_groups, whole = made(features, tmp_path / "c", tmp_path / "d", basis=AFTER)
    assert (groups.all.group[-2:] == [3, 7]).all()
    assert (groups.all.group == all_groups.all.group).mean() > 0.98
    one, other = llbnad.neighbour_scores(updated), llbnad.neighbour_scores(whole)
    assert _rank_correlation(one.values, other.values) > 0.98
    assert set(one.ranking()[:ODD]) == set(other.ranking()[:ODD]) == set(features.ids[-ODD - 2 : -2])


def test_lists_from_two_pools_are_one_list_of_both() -> None:
    features = grown_set()
    groups = _alone(features)
    pool = neighbours.build_pool(features, basis=BEFORE)
    later = pool.image >= BEFORE
    assert pool.image[~later].tolist() == neighbours.build_pool(features.first(BEFORE)).image.tolist()
    assert later.sum() == AFTER - BEFORE

    def searched(bank: Pool) -> NeighbourShard:
        return neighbours.search_shard(features, bank, groups, 20, 40)

    both = neighbours.merged(
        searched(pool.part(~later)), searched(pool.part(later)), groups, features.offsets
    )
    whole = searched(pool)
    assert (both.distances == whole.distances).all()
    assert (both.images == whole.images).all()


def test_a_photograph_found_to_be_of_the_same_thing_leaves_the_list() -> None:
    features = grown_set()
    pool = neighbours.build_pool(features, basis=BEFORE)
    before = neighbours.search_shard(features, pool, _alone(features), 0, 10)
    nearest = int(before.images[0, 0])
    together = _alone(features)
    together.group[nearest] = 0
    nothing = NeighbourShard(0, 10, before.distances[:, :0], before.images[:, :0])
    after = neighbours.merged(before, nothing, together, features.offsets)
    own = after.images[: len(features.of(0))]
    assert (before.images[: len(own)] == nearest).any()
    assert (own != nearest).all()
    assert (
        np.diff(after.distances.astype(np.float32), axis=1)[np.isfinite(after.distances[:, 1:])] >= 0
    ).all()
    assert (after.images[0, -1], after.distances[0, -1]) == (-1, np.inf)


def test_later_images_come_to_a_full_pool_as_often_as_earlier_ones_did() -> None:
    features = texture_images(AFTER)
    pool = neighbours.build_pool(features, basis=BEFORE, max_images=50)
    later = int((pool.image >= BEFORE).sum())
    assert len(pool.image) - later == 50
    assert 3 <= later <= 20  # a third of 30


def _alone(features: PatchFeatures) -> NearDuplicates:
    return NearDuplicates(features.ids, np.arange(features.n_images))


def _rank_correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(np.corrcoef(one.argsort().argsort(), other.argsort().argsort())[0, 1])
