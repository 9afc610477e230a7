"""What a choice inside a signal is worth: alone, and in the fused ranking, with one choice changed at a time.

python -m benchmarks.ablations [--what votes funad llbnad pool]
    [--splits 'magnetic_tile-rho10-*' ...] [--out FILE]

The pipeline's own methods on cached features; every other signal stays as it is in the pipeline. A line of
--out is one variant on one split, kept as soon as it is measured and not done again. Seconds are CPU time.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.case import Case
from benchmarks.data import split_names
from siftline.domain.scores import ScoredImages
from siftline_workers.methods import funad, fusion, llbnad, near_duplicates, neighbours, padim
from siftline_workers.methods.backbones import load_backbone, preset_named
from siftline_workers.methods.funad_head import FunadOptions
from siftline_workers.methods.near_duplicates import NearDuplicates
from siftline_workers.methods.neighbours import NeighbourGraph
from siftline_workers.pipeline.feature_cache import FeatureCache

Signals = dict[str, ScoredImages]
Variant = Callable[[], Signals]

_KEPT = FunadOptions()
FUNAD: Mapping[str, FunadOptions] = {
    "kept": _KEPT,
    "1 round": replace(_KEPT, rounds=1),
    "3 rounds": replace(_KEPT, rounds=3),
    "half the steps": replace(_KEPT, steps=_KEPT.steps // 2),
    "a quarter of the steps": replace(_KEPT, steps=_KEPT.steps // 4),
    "2 folds": replace(_KEPT, folds=2),
}
LLBNAD = {"kept, R 4 K 5": (4, 5), "K 3": (4, 3), "K 10": (4, 10), "R 1": (1, 5), "R 8": (8, 5)}
POOL = {"kept, 16,384 patches": 16_384, "4,096": 4096, "8,192": 8192, "32,768": 32_768}


@dataclass(frozen=True)
class Stage:
    """A split with the signals as the pipeline computes them, each once."""

    case: Case

    @cached_property
    def groups(self) -> NearDuplicates:
        return near_duplicates.find(self.case.features)

    @cached_property
    def graph(self) -> NeighbourGraph:
        return self.graph_of(16_384)

    @cached_property
    def signals(self) -> Signals:
        subset = llbnad.subset_scores(self.graph, self.groups)
        return {
            "neighbours": llbnad.neighbour_scores(self.graph),
            "llbnad": subset.scores,
            "padim": padim.place_scores(self.case.projected, self.groups).scores,
            "funad": self.funad(_KEPT, subset.scores)["funad"],
        }

    def graph_of(self, patches: int) -> NeighbourGraph:
        reduced = self.case.projected
        pool = neighbours.build_pool(reduced, max_patches=patches)
        found = neighbours.search_shard(reduced, pool, self.groups, 0, reduced.n_images)
        return neighbours.join([found], reduced)

    def funad(self, options: FunadOptions, start: ScoredImages) -> Signals:
        found = funad.pseudo_label_scores(
            self.case.projected, self.graph, self.groups, start, options=options
        )
        return {"funad": found.scores}

    def llbnad(self, graph: NeighbourGraph, repeats: int = 4, subsets: int = 5) -> Signals:
        return {"llbnad": llbnad.subset_scores(graph, self.groups, repeats=repeats, subsets=subsets).scores}


def variants(stage: Stage, what: str) -> Iterator[tuple[str, Variant]]:
    """Each variant's name, and what computes the signals that it changes."""
    if what == "funad":
        warm = stage.signals["llbnad"]
        cold = ScoredImages(warm.ids, np.zeros(len(warm.ids), np.float32))
        for name, options in FUNAD.items():
            yield name, lambda options=options: stage.funad(options, warm)  # type: ignore[misc]  # no type for a default
        yield "cold: the first bank is everything", lambda: stage.funad(_KEPT, cold)
    elif what == "llbnad":
        for name, (repeats, subsets) in LLBNAD.items():
            yield name, lambda r=repeats, k=subsets: stage.llbnad(stage.graph, r, k)  # type: ignore[misc]  # no type for a default
    elif what == "votes":
        for count in range(1, len(stage.signals) + 1):
            for names in combinations(stage.signals, count):
                yield " + ".join(names), lambda names=names: {name: stage.signals[name] for name in names}  # type: ignore[misc]  # no type for a default
    else:
        for name, patches in POOL.items():
            yield name, lambda patches=patches: stage.llbnad(stage.graph_of(patches))  # type: ignore[misc]  # no type for a default


def measured(stage: Stage, what: str, variant: Variant) -> dict[str, float]:
    """AUROC of the changed signal, and of all signals fused with it; of `votes`, of those alone and alike."""
    truth = stage.case.split.anomalous
    stage.signals  # noqa: B018  # computed before the clock starts
    began = process_time()
    changed = variant()
    seconds = process_time() - began
    alone = next(iter(changed.values())).aligned_to(stage.groups.ids)
    voting, votes = (changed, {}) if what == "votes" else (stage.signals | changed, fusion.VOTES)
    fused = fusion.fuse(voting, stage.groups, votes).scores.values
    return {
        "alone": float(roc_auc_score(truth, alone)),
        "fused": float(roc_auc_score(truth, fused)),
        "cpu_s": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--what", nargs="+", default=["votes", "funad", "llbnad", "pool"])
    parser.add_argument("--splits", nargs="+", default=["*-rho10-*"], metavar="PATTERN")
    parser.add_argument("--cache", type=Path, default=Path("out/benchmark-cache"))
    parser.add_argument("--out", type=Path, default=Path("out/ablations.jsonl"))
    given = parser.parse_args()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    done = {(row["split"], row["what"], row["variant"]) for row in rows}
    backbone, cache = load_backbone(preset_named("lite"), None, "cpu"), FeatureCache(given.cache)
    for name in [name for pattern in given.splits for name in split_names(pattern)]:
        stage = Stage(Case(name, backbone, cache))
        for what in given.what:
            for label, variant in variants(stage, what):
                if (name, what, label) in done:
                    continue
                rows.append({"split": name, "what": what, "variant": label} | measured(stage, what, variant))
                with given.out.open("a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
    print_tables([row for row in rows if row["what"] in given.what])


def print_tables(rows: list[dict[str, Any]]) -> None:
    """A line a variant, a column a set: AUROC alone, fused, CPU seconds; means over seeds."""
    cells: dict[tuple[str, str], dict[str, list[list[float]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        figures = [row["alone"], row["fused"], row["cpu_s"]]
        cells[row["what"], row["variant"]][re.sub(r"-seed\d+$", "", row["split"])].append(figures)
    for (what, variant), sets in cells.items():
        means = {name: np.mean(several, axis=0) for name, several in sorted(sets.items())}
        columns = (
            f"{name} ({len(sets[name])}) {m[0]:.3f} {m[1]:.3f} {m[2]:.1f} s" for name, m in means.items()
        )
        print(f"| {what}: {variant} | " + " | ".join(columns) + " |")


if __name__ == "__main__":
    main()
