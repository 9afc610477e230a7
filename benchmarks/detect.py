"""What purification is worth to a detector: every method trained on everything and on cleaned sets.

python -m benchmarks.detect [--splits PATTERN ...] [--methods nearest funad cdd reverse] [--out FILE]

Training sets: *everything*; a *random* subset as large as our clean set; *ours*, the purifier's clean set;
*true*, all that is really good. Each detector is trained as the service trains it and scores the split's test
images, which are the same at every rho, from their cached features: its ONNX file answers the same within
a thousandth of a map's spread (tests/contracts). FUN-AD's calibration, which changes no score and costs three
quarters of its training, is left out. Finished rows are kept in --out and not done again: a long run can be
stopped and taken up; clean sets are kept in --cache. Then: the table, means over seeds.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor, nn

from benchmarks.data import LabelledSplit, load_split, split_names
from benchmarks.distillation import Forgetful
from benchmarks.localisation import mask_of, per_region_overlap, pixel_auroc, resized_map
from benchmarks.memory import subset
from benchmarks.meter import Cost, Meter
from benchmarks.nearest import NearestNeighbour, image_score
from siftline.imaging.tiles import join_tiles
from siftline.schemas import CddOptions
from siftline_workers.methods import funad_detector, near_duplicates
from siftline_workers.methods.backbones import Backbone, load_backbone, preset_named
from siftline_workers.methods.cdd import CDD
from siftline_workers.methods.detectors import Budget, TrainingSet
from siftline_workers.methods.distillation import anomaly_map, stages_of
from siftline_workers.methods.features import PatchFeatures
from siftline_workers.methods.funad_detector_data import tiles_of
from siftline_workers.methods.near_duplicates import NearDuplicates
from siftline_workers.pipeline import ranking
from siftline_workers.pipeline.checkpoints import Checkpoints
from siftline_workers.pipeline.extract import extract
from siftline_workers.pipeline.feature_cache import FeatureCache
from siftline_workers.pipeline.ranking import RankOptions
from siftline_workers.pipeline.stages import Stages

TRAINING_SETS = ("everything", "random", "ours", "true")
DISTILLED: Mapping[str, dict[str, Any]] = {
    "cdd": CddOptions().model_dump(),
    "reverse": CddOptions(aggregation=False).model_dump(),
}
METHODS = ("nearest", "funad", *DISTILLED)
PRESET = preset_named("lite")

Maps = list[NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Answers:
    """What a detector says of the test images, and what it cost to make."""

    scores: list[float]
    maps: Maps
    cost: Cost


@dataclass(frozen=True)
class Case:
    """A split by name, with its features in memory once they were asked for."""

    name: str
    cache: Path

    @cached_property
    def train(self) -> LabelledSplit:
        return load_split(self.name)

    @cached_property
    def test(self) -> LabelledSplit:
        return load_split(self.name, "test")

    @cached_property
    def patches(self) -> PatchFeatures:
        return self._extracted(self.train, load_backbone(PRESET, None, "cpu"))

    @cached_property
    def test_patches(self) -> PatchFeatures:
        return self._extracted(self.test, load_backbone(PRESET, None, "cpu"))

    @cached_property
    def stages(self) -> PatchFeatures:
        """The teacher's, one row a tile."""
        return self._extracted(self.train, CDD.extractor(PRESET, None, "cpu"))

    @cached_property
    def test_stages(self) -> PatchFeatures:
        return self._extracted(self.test, CDD.extractor(PRESET, None, "cpu"))

    def _extracted(self, part: LabelledSplit, backbone: Backbone) -> PatchFeatures:
        return extract(part.stored(), backbone, FeatureCache(self.cache), lambda _share: None)

    @cached_property
    def group(self) -> NDArray[np.int64]:
        """(N,) near-duplicates as purification finds them; kept in the cache."""
        path = self.cache / f"groups-{ranking.VERSION}-{self.name}.npy"
        if not path.exists():
            np.save(path, near_duplicates.find(self.patches).group)
        group: NDArray[np.int64] = np.load(path)
        return group

    @cached_property
    def clean(self) -> NDArray[np.int64]:
        """Positions of what the purifier, as it is now, calls clean; kept in the cache."""
        path = self.cache / f"clean-{ranking.VERSION}-{self.name}.json"
        if not path.exists():
            stages = Stages(ranking.SHARES, lambda _stage, _share: None)
            with tempfile.TemporaryDirectory() as folder:
                keeper = Checkpoints(Path(folder), "benchmark")
                found = ranking.rank(self.patches, RankOptions(), keeper, stages)
            path.write_text(json.dumps([i for i, v in enumerate(found.split.verdict) if v == "clean"]))
        return np.array(json.loads(path.read_text()), np.int64)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--splits", nargs="+", default=["*-rho10-seed0"], metavar="PATTERN")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--sets", nargs="+", default=list(TRAINING_SETS), choices=TRAINING_SETS)
    parser.add_argument("--cache", type=Path, default=Path("out/benchmark-cache"))
    parser.add_argument("--out", type=Path, default=Path("out/detect.jsonl"))
    parser.add_argument("--max-steps", type=int, help="of cdd and reverse; theirs if not given")
    given = parser.parse_args()
    names = list(dict.fromkeys(name for pattern in given.splits for name in split_names(pattern)))
    if not names:
        parser.error("no such split; the labelled data are expected in ../shared/data")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    rows = read_rows(given.out)
    done = {(row["split"], row["method"], row["trained_on"]) for row in rows}
    for name in names:
        wanted = [(m, of) for m in given.methods for of in given.sets if (name, m, of) not in done]
        for row in measured(name, wanted, given.cache, given.max_steps):
            rows.append(row)
            with given.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
    print_table([row for row in rows if row["split"] in names and row["method"] in given.methods])


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def measured(
    name: str, wanted: Sequence[tuple[str, str]], cache: Path, max_steps: int | None
) -> Iterator[dict[str, Any]]:
    """One row for each method and training set."""
    if not wanted:
        return
    case = Case(name, cache)
    masks = np.stack([mask_of(path) for path in case.test.masks])
    for method, of in wanted:
        stages = method in DISTILLED
        features, unseen = (case.stages, case.test_stages) if stages else (case.patches, case.test_patches)
        chosen = training_set(of, case)
        data = TrainingSet(
            subset(features, chosen),
            NearDuplicates(tuple(features.ids[i] for i in chosen), case.group[chosen]),
        )
        answers = answered(method, data, unseen, max_steps)
        row = {"split": name, "method": method, "trained_on": of, "images": len(chosen)}
        yield row | quality(answers, case.test, masks) | asdict(answers.cost)


def training_set(of: str, case: Case) -> NDArray[np.int64]:
    """Positions of the images."""
    n = len(case.train.paths)
    if of == "everything":
        return np.arange(n)
    if of == "true":
        return np.flatnonzero(~case.train.anomalous)
    if of == "ours":
        return case.clean
    return np.sort(np.random.default_rng(0).permutation(n)[: len(case.clean)])


def answered(method: str, data: TrainingSet, unseen: PatchFeatures, max_steps: int | None) -> Answers:
    """A detector made of `data`, asked of images it has not seen."""
    meter = Meter()
    if method == "nearest":
        detector = NearestNeighbour(data.features)
        cost = meter.cost()
        maps = detector.maps(unseen)
        return Answers([image_score(heat) for heat in maps], maps, cost)
    if method == "funad":
        scorer = funad_detector.uncalibrated(data, PRESET, seed=0, keeper=Forgetful())
        return scored(unseen, lambda i: scorer(tiles_of(unseen, i, PRESET.grid)), meter.cost())
    student = distilled(method, data, max_steps)
    shapes = stages_of(PRESET)

    def ask(i: int) -> tuple[Tensor, Tensor]:
        maps = shapes.maps(torch.from_numpy(unseen.of(i).copy()))
        found = anomaly_map(maps, student(maps))
        return found, found.amax((1, 2))

    return scored(unseen, ask, meter.cost())


def distilled(method: str, data: TrainingSet, max_steps: int | None) -> nn.Module:
    trained = CDD.train(
        data,
        PRESET,
        None,
        DISTILLED[method],
        seed=0,
        budget=Budget(max_steps),
        keeper=Forgetful(),
        on_progress=lambda _share: None,
    )
    return trained.module.get_submodule("student")


def scored(unseen: PatchFeatures, ask: Callable[[int], tuple[Tensor, Tensor]], cost: Cost) -> Answers:
    """As the service scores: an image's highest tile, its tiles' maps side by side."""
    scores, maps = [], []
    with torch.inference_mode():
        for i in range(unseen.n_images):
            found, told = ask(i)
            grid = found.shape[1]
            rows, columns = unseen.grid(i)
            layout = (rows, columns) if len(found) == rows * columns else (rows // grid, columns // grid)
            joined = join_tiles(found.reshape(len(found), grid * grid, 1).numpy(), layout, grid)
            scores.append(float(told.max()))
            maps.append(joined[:, :, 0].astype(np.float32))
    return Answers(scores, maps, cost)


def quality(answers: Answers, test: LabelledSplit, masks: NDArray[np.bool_]) -> dict[str, float]:
    found = {
        "auroc": float(roc_auc_score(test.anomalous, answers.scores)),
        "ap": float(average_precision_score(test.anomalous, answers.scores)),
    }
    if masks.any():
        maps = np.stack([resized_map(heat) for heat in answers.maps])
        found |= {"pixel_auroc": pixel_auroc(maps, masks), "pro": per_region_overlap(maps, masks)}
    return {name: round(value, 4) for name, value in found.items()}


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """Mean and spread over seeds of the image AUROC; means of the rest."""
    cells: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        cells[re.sub(r"-seed\d+$", "", row["split"]), row["method"], row["trained_on"]].append(row)
    print(f"\n{'split':28}{'method':10}{'trained on':12}  AUROC ± spread     AP  pixel   PRO    CPU s    MiB")
    for (split, method, of), several in sorted(cells.items()):
        auroc = [row["auroc"] for row in several]
        means = [np.mean([r.get(key, np.nan) for r in several]) for key in ("ap", "pixel_auroc", "pro")]
        rest = "".join(f"{value:7.3f}" for value in means)
        seconds, mib = (np.mean([row.get(key, np.nan) for row in several]) for key in ("cpu_s", "peak_mib"))
        rest += f"{seconds:9.1f}{mib:7.0f}  {len(several)} seeds"
        print(f"{split:28}{method:10}{of:12}{np.mean(auroc):8.3f} ± {np.std(auroc):.3f}{rest}")


if __name__ == "__main__":
    main()
