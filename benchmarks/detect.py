"""What purification is worth to a detector: every method trained on everything and on cleaned sets.

python -m benchmarks.detect [--splits PATTERN ...] [--methods nearest funad cdd reverse] [--out FILE]

Training sets: *everything*; a *random* subset as large as our clean set; *ours*, the purifier's clean set;
*true*, all that is really good. Each detector is trained as the service trains it, exported to ONNX and run
with OpenVINO on the split's test images, which are the same at every rho. Finished rows are kept in --out and
not done again, so a long run can be stopped and taken up. Then: the table, means over seeds.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks.data import LabelledSplit, load_split, split_names
from benchmarks.localisation import mask_of, per_region_overlap, pixel_auroc, resized_map
from benchmarks.nearest import NearestNeighbour, image_score
from siftline.imaging import ImageLimits, decode_rgb
from siftline.imaging.tiles import join_tiles, tile_layout, to_tiles
from siftline.schemas import CddOptions, FunadOptions
from siftline_workers.methods.backbones import load_backbone, preset_named
from siftline_workers.methods.detector_table import DETECTORS
from siftline_workers.methods.detectors import Budget, TrainingSet
from siftline_workers.methods.near_duplicates import NearDuplicates
from siftline_workers.methods.onnx_export import export
from siftline_workers.pipeline.checkpoints import Checkpoints
from siftline_workers.pipeline.extract import StoredImage, extract
from siftline_workers.pipeline.feature_cache import FeatureCache
from siftline_workers.pipeline.ranking import SHARES, Ranking, RankOptions, rank
from siftline_workers.pipeline.stages import Stages

TRAINING_SETS = ("everything", "random", "ours", "true")
OPTIONS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "funad": ("funad", FunadOptions().model_dump()),
    "cdd": ("cdd", CddOptions().model_dump()),
    "reverse": ("cdd", CddOptions(aggregation=False).model_dump()),
}
METHODS = ("nearest", *OPTIONS)
PRESET = preset_named("lite")
LIMITS = ImageLimits(max_pixels=2**62)

Maps = list[NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Answers:
    """What a detector says of the test images, and what it cost to make."""

    scores: list[float]
    maps: Maps
    training_s: float


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--splits", nargs="+", default=["*-rho10-seed0"], metavar="PATTERN")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--sets", nargs="+", default=list(TRAINING_SETS), choices=TRAINING_SETS)
    parser.add_argument("--cache", type=Path, default=Path("out/benchmark-cache"))
    parser.add_argument("--out", type=Path, default=Path("out/detect.jsonl"))
    given = parser.parse_args()
    names = [name for pattern in given.splits for name in split_names(pattern)]
    if not names:
        parser.error("no such split; the labelled data are expected in ../shared/data")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    rows = read_rows(given.out)
    for name in names:
        wanted = [
            (method, of)
            for method in given.methods
            for of in given.sets
            if (name, method, of) not in {(r["split"], r["method"], r["trained_on"]) for r in rows}
        ]
        rows += measured(name, wanted, FeatureCache(given.cache), given.out)
    print_table([row for row in rows if row["split"] in names and row["method"] in given.methods])
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def measured(
    name: str, wanted: Sequence[tuple[str, str]], cache: FeatureCache, out: Path
) -> list[dict[str, Any]]:
    """One row for each method and training set."""
    if not wanted:
        return []
    train, test = load_split(name), load_split(name, "test")
    stored = train.stored()
    ranking = ranked(stored, cache)
    subsets = training_sets(train, ranking)
    masks = np.stack([mask_of(path) for path in test.masks])
    rows = []
    for method, of in wanted:
        chosen = [stored[i] for i in subsets[of]]
        if method == "nearest":
            answers = nearest(chosen, test, cache)
        else:
            groups = ranking.groups.group[subsets[of]]
            answers = trained(method, chosen, groups, test, cache)
        row = {"split": name, "method": method, "trained_on": of, "images": len(chosen)}
        row |= quality(answers, test, masks) | {"training_s": round(answers.training_s, 1)}
        rows.append(row)
        with out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)
    return rows


def ranked(stored: Sequence[StoredImage], cache: FeatureCache) -> Ranking:
    features = extract(stored, load_backbone(PRESET, None, "cpu"), cache, lambda _share: None)
    with tempfile.TemporaryDirectory() as folder:
        stages = Stages(SHARES, lambda _stage, _share: None)
        return rank(features, RankOptions(), Checkpoints(Path(folder), "benchmark"), stages)


def training_sets(train: LabelledSplit, ranking: Ranking) -> dict[str, NDArray[np.int64]]:
    """Positions of the images of each training set."""
    clean = np.array([verdict == "clean" for verdict in ranking.split.verdict])
    random = np.random.default_rng(0).permutation(len(clean))[: clean.sum()]
    return {
        "everything": np.arange(len(clean)),
        "random": np.sort(random),
        "ours": np.flatnonzero(clean),
        "true": np.flatnonzero(~train.anomalous),
    }


def nearest(chosen: Sequence[StoredImage], test: LabelledSplit, cache: FeatureCache) -> Answers:
    backbone = load_backbone(PRESET, None, "cpu")
    features = extract(chosen, backbone, cache, lambda _share: None)
    began = perf_counter()
    detector = NearestNeighbour(features)
    training_s = perf_counter() - began
    maps = detector.maps(extract(test.stored(), backbone, cache, lambda _share: None))
    return Answers([image_score(heat) for heat in maps], maps, training_s)


def trained(
    method: str,
    chosen: Sequence[StoredImage],
    groups: NDArray[np.int64],
    test: LabelledSplit,
    cache: FeatureCache,
) -> Answers:
    name, options = OPTIONS[method]
    maker = DETECTORS[name]
    features = extract(chosen, maker.extractor(PRESET, None, "cpu"), cache, lambda _share: None)
    data = TrainingSet(features, NearDuplicates(features.ids, groups))
    with tempfile.TemporaryDirectory() as folder:
        began = perf_counter()
        result = maker.train(
            data,
            PRESET,
            None,
            options,
            seed=0,
            budget=Budget(),
            keeper=Checkpoints(Path(folder), "benchmark"),
            on_progress=lambda _share: None,
        )
        training_s = perf_counter() - began
        path = Path(folder) / "model.onnx"
        example = to_tiles(decode_rgb(chosen[0].open_bytes(), LIMITS), PRESET.side)
        export(result.module, PRESET.side, path, example)
        scores, maps = answered(path, test)
    return Answers(scores, maps, training_s)


def answered(model: Path, test: LabelledSplit) -> tuple[list[float], Maps]:
    """As the service scores: the file, OpenVINO, float32, an image's highest tile."""
    run = openvino.Core().compile_model(str(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    scores, maps = [], []
    for path in test.paths:
        rgb = decode_rgb(path, LIMITS)
        told = [run({"tile": tile[None]}) for tile in to_tiles(rgb, PRESET.side)]
        tiles = np.concatenate([each["map"] for each in told])
        grid = tiles.shape[1]
        joined = join_tiles(tiles.reshape(len(tiles), grid * grid, 1), tile_layout(*rgb.shape[:2]), grid)
        scores.append(max(float(each["score"][0]) for each in told))
        maps.append(joined[:, :, 0].astype(np.float32))
    return scores, maps


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
    print(f"\n{'split':28}{'method':10}{'trained on':12}  AUROC ± spread     AP  pixel   PRO  seconds")
    for (split, method, of), several in sorted(cells.items()):
        auroc = [row["auroc"] for row in several]
        means = [np.mean([r.get(key, np.nan) for r in several]) for key in ("ap", "pixel_auroc", "pro")]
        rest = "".join(f"{value:7.3f}" for value in means)
        seconds = np.mean([row["training_s"] for row in several])
        print(
            f"{split:28}{method:10}{of:12}{np.mean(auroc):8.3f} ± {np.std(auroc):.3f}{rest}{seconds:9.1f}"
            f"  {len(several)} seeds"
        )


if __name__ == "__main__":
    main()
