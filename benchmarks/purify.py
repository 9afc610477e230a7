"""How well a contaminated set is ranked, counted, split and put to use, beside rivals on the same features.

python -m benchmarks.purify [--splits 'magnetic_tile-rho10-*' ...] [--out FILE]
    [--parts ranking cuts downstream rivals meds released]

One row a split and part, each kept in --out as soon as it is finished and not done again, so a long run can
be stopped and taken up; rows of another version of the ranking do not count. Then tables: means over seeds,
± their standard deviation. Runs exactly what the service runs (pipeline.ranking.rank).
"""

from __future__ import annotations

import argparse
import json
import re
import resource
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

from benchmarks import cuts, downstream, quality, rivals, rivals_trained
from benchmarks.case import Case
from benchmarks.data import split_names
from benchmarks.quality import Row
from siftline_workers.methods.backbones import load_backbone, preset_named
from siftline_workers.pipeline import ranking
from siftline_workers.pipeline.feature_cache import FeatureCache

PARTS: Mapping[str, Callable[[Case], Row]] = {
    "ranking": quality.measured,
    "cuts": cuts.measured,
    "downstream": downstream.measured,
    "rivals": rivals.measured,
    "meds": rivals_trained.meds,
    "released": rivals_trained.funad_as_released,
}
OF_THE_RANKING = ("ranking", "cuts", "downstream")
"""Parts whose rows a new version of the ranking makes stale."""

_LOST = 0.003
"""AUROC: where contamination costs less than that, no share of it can be told."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--splits", nargs="+", default=["*-rho10-seed0"], metavar="PATTERN")
    parser.add_argument("--parts", nargs="+", default=["ranking"], choices=list(PARTS))
    parser.add_argument("--cache", type=Path, default=Path("out/benchmark-cache"))
    parser.add_argument("--out", type=Path, default=Path("out/purify.jsonl"))
    given = parser.parse_args()
    names = [name for pattern in given.splits for name in split_names(pattern)]
    if not names:
        parser.error("no such split; the labelled data are expected in ../shared/data")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    rows = read_rows(given.out)
    done = {(row["split"], row["part"]) for row in rows}
    backbone, cache = load_backbone(preset_named("lite"), None, "cpu"), FeatureCache(given.cache)
    for name in names:
        case = Case(name, backbone, cache)
        for part in [part for part in given.parts if (name, part) not in done]:
            rows.append(measured(case, part))
            with given.out.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
            print(json.dumps(rows[-1]), flush=True)
    print_tables([row for row in rows if row["split"] in names and row["part"] in given.parts])
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


def read_rows(path: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [row for row in rows if row["part"] not in OF_THE_RANKING or row["ranking"] == ranking.VERSION]


def measured(case: Case, part: str) -> dict[str, Any]:
    began = process_time()
    values = {name: round(value, 4) for name, value in PARTS[part](case).items()}
    row = {"split": case.name, "part": part, "ranking": ranking.VERSION}
    return row | {"cpu_s": round(process_time() - began, 1), "values": values}


def print_tables(rows: Sequence[dict[str, Any]]) -> None:
    """One table a part: a line a figure, a column a set and rho."""
    for part in PARTS:
        columns: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            if row["part"] == part and row["values"]:
                columns[re.sub(r"-seed\d+$", "", row["split"])].append(row["values"])
        if not columns:
            continue
        seeds = "/".join(sorted({str(len(several)) for several in columns.values()}))
        print(
            f"\n## {part} (seeds: {seeds})\n| | "
            + " | ".join(columns)
            + " |\n|"
            + "---|" * (len(columns) + 1)
        )
        for figure in dict.fromkeys(name for several in columns.values() for row in several for name in row):
            cells = [
                spread([row[figure] for row in several if figure in row]) for several in columns.values()
            ]
            print(f"| {figure} | " + " | ".join(cells) + " |")
        if part == "downstream":
            print("| gap recovered | " + " | ".join(map(recovered, columns.values())) + " |")


def spread(values: Sequence[float]) -> str:
    """Of those that are defined: without an anomaly there is no AUROC, without a suspect no precision."""
    return f"{np.mean(values):.3f} ± {np.std(values):.3f}" if values else "–"


def recovered(several: Sequence[Row]) -> str:
    """Of the AUROC that contamination costs, means over seeds, the share that our clean set gives back."""
    everything, ours, true = (
        np.mean([row[f"{name} AUROC"] for row in several]) for name in ("everything", "ours", "true")
    )
    gap = true - everything
    return f"{(ours - everything) / gap:.0%} of {gap:.3f}" if gap > _LOST else f"no gap ({gap:+.3f})"


if __name__ == "__main__":
    main()
