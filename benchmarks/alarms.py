"""Whether a detector of a purified set keeps its word: false alarms on unseen good images, hits on bad ones.

python -m benchmarks.alarms [--splits PATTERN ...] [--cache DIR] [--out FILE]

FUN-AD is trained on our clean set as the service trains it and calibrated three ways: on the clean images'
out-of-fold scores alone; with the suspects `taken_for_good` beside them, as the service does; and as one
could if it were known which images are good. Labels serve for the last and for counting. Scores are kept in
--out: a finished split is only counted again.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.data import split_names
from benchmarks.detect import PRESET, Case, read_rows
from benchmarks.distillation import Forgetful
from benchmarks.memory import subset
from siftline.domain.calibration import calibrate, taken_for_good
from siftline_workers.methods.detectors import Budget, Trained, TrainingSet
from siftline_workers.methods.funad_detector import FUNAD
from siftline_workers.methods.funad_detector_data import tiles_of
from siftline_workers.methods.near_duplicates import NearDuplicates
from siftline_workers.pipeline import ranking
from siftline_workers.pipeline.checkpoints import Checkpoints
from siftline_workers.pipeline.clean_set import CleanSet
from siftline_workers.pipeline.export import scores_aside
from siftline_workers.pipeline.ranking import RankOptions
from siftline_workers.pipeline.stages import Stages

TARGETS = (0.01, 0.05, 0.1)
Row = dict[str, Any]
WAYS = ("clean alone", "as shipped", "all known")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--splits", nargs="+", default=["*-rho10-seed0"], metavar="PATTERN")
    parser.add_argument("--cache", type=Path, default=Path("out/benchmark-cache"))
    parser.add_argument("--out", type=Path, default=Path("out/alarms.jsonl"))
    given = parser.parse_args()
    names = list(dict.fromkeys(name for pattern in given.splits for name in split_names(pattern)))
    if not names:
        parser.error("no such split; the labelled data are expected in ../shared/data")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    rows = read_rows(given.out)
    for name in names:
        if name not in {row["split"] for row in rows}:
            rows.append(measured(Case(name, given.cache)))
            with given.out.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
    print_table([row for row in rows if row["split"] in names])


def measured(case: Case) -> Row:
    """All scores of one split, with the truth, for any way to calibrate."""
    stages = Stages(ranking.SHARES, lambda _stage, _share: None)
    with tempfile.TemporaryDirectory() as folder:
        found = ranking.rank(case.patches, RankOptions(), Checkpoints(Path(folder), "b"), stages)
    suspect = np.array([verdict == "suspect" for verdict in found.split.verdict])
    chosen, group = np.flatnonzero(~suspect), found.groups.group
    aside = np.flatnonzero(suspect & ~np.isin(group, group[chosen]))
    groups = NearDuplicates(tuple(case.patches.ids[i] for i in chosen), group[chosen])
    data = TrainingSet(subset(case.patches, chosen), groups)
    began = process_time()
    trained = FUNAD.train(
        data, PRESET, None, {}, seed=0, budget=Budget(), keeper=Forgetful(), on_progress=lambda _share: None
    )
    stored = case.train.stored()
    clean = CleanSet(
        images=tuple(stored[i] for i in chosen),
        groups=groups,
        image_ids={},
        tone=None,
        review_revision=0,
        aside=tuple(stored[i] for i in aside),
        good_set_aside=float((1 - found.split.p_anomalous[aside]).sum()),
    )
    odd = scores_aside(trained, clean, PRESET.side, lambda _share: None)
    return {
        "split": case.name,
        "clean": trained.out_of_fold.values.tolist(),
        "clean_bad": case.train.anomalous[chosen].tolist(),
        "aside": odd.tolist(),
        "aside_bad": case.train.anomalous[aside].tolist(),
        "aside_p": found.split.p_anomalous[aside].tolist(),
        "test": unseen_scores(trained, case),
        "test_bad": case.test.anomalous.tolist(),
        "cpu_s": round(process_time() - began, 1),
    }


@torch.inference_mode()
def unseen_scores(trained: Trained, case: Case) -> list[float]:
    scorer, test = trained.module.get_submodule("scorer"), case.test_patches
    return [float(scorer(tiles_of(test, i, PRESET.grid))[1].max()) for i in range(test.n_images)]


def counts(row: Row, target: float) -> dict[str, tuple[float, float]]:
    """Share of unseen good images above the threshold and of unseen bad ones, by way of calibrating."""
    clean, aside = (np.array(row[part], np.float32) for part in ("clean", "aside"))
    sets = {
        "clean alone": clean,
        "as shipped": np.concatenate([clean, taken_for_good(aside, sum(1 - p for p in row["aside_p"]))]),
        "all known": np.concatenate([clean[~flags(row, "clean_bad")], aside[~flags(row, "aside_bad")]]),
    }
    bad, scores = flags(row, "test_bad"), np.array(row["test"])
    found = {}
    for way, known in sets.items():
        above = scores > calibrate(known, target, target).threshold
        found[way] = float(above[~bad].mean()), float(above[bad].mean())
    return found


def flags(row: Row, name: str) -> NDArray[np.bool_]:
    return np.array(row[name], bool)  # of an empty list too


def print_table(rows: Sequence[Row]) -> None:
    """Means over seeds, the worst of them in brackets, in per cent."""
    for target in TARGETS:
        cells: dict[str, list[dict[str, tuple[float, float]]]] = defaultdict(list)
        for row in rows:
            cells[re.sub(r"-seed\d+$", "", row["split"])].append(counts(row, target))
            cells["mean"].append(cells[re.sub(r"-seed\d+$", "", row["split"])][-1])
        print(f"\nwanted {target:.0%}: false alarms (worst), hits" + "".join(f"{way:>24}" for way in WAYS))
        for name, several in sorted(cells.items(), key=lambda cell: (cell[0] == "mean", cell[0])):
            line = f"{name:32}{len(several):3}     "
            for way in WAYS:
                alarms, hits = np.array([found[way] for found in several]).T * 100
                line += f"{alarms.mean():10.1f} ({alarms.max():4.1f}) {hits.mean():6.1f}"
            print(line)


if __name__ == "__main__":
    main()
