"""Labelled splits for measuring: the only place, with the tests, where a label is read."""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siftline_workers.pipeline.extract import StoredImage

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@dataclass(frozen=True, slots=True)
class LabelledSplit:
    """A training or test list with the truth that the method must not see."""

    name: str
    paths: tuple[Path, ...]
    anomalous: NDArray[np.bool_]
    """(N,)"""
    thing: NDArray[np.int64]
    """(N,): images of one physical thing share a number; all different where that is unknown."""
    masks: tuple[Path | None, ...]
    """N: where each image's defect mask is; None for good images and where nobody drew one."""

    def stored(self) -> list[StoredImage]:
        """Ids are hashes of the content: no name, place or order can reach a method."""
        images = []
        for path in self.paths:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            images.append(StoredImage(digest, digest, path.read_bytes))
        return images


def split_names(pattern: str = "*", folder: Path = SHARED) -> list[str]:
    """Names of the splits that match a glob pattern."""
    return sorted(path.stem for path in (folder / "splits").glob(f"{pattern}.json"))


def load_split(name: str, part: str = "train", folder: Path = SHARED) -> LabelledSplit:
    """The `train` or `test` part of a split by name. FileNotFoundError when the data are not there."""
    split = json.loads((folder / "splits" / f"{name}.json").read_text())
    items: list[str] = split[part]
    anomalous = np.array(split[f"{part}_label"], dtype=bool)
    if split["dataset"] == "elpv":
        root = elpv_images()
        paths = tuple(root / Path(item).name for item in items)
        return LabelledSplit(name, paths, anomalous, np.arange(len(paths)), (None,) * len(paths))
    root = folder / split["dataset"]
    with (root / "manifest.csv").open(newline="") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    things = np.unique([rows[item]["group"] for item in items], return_inverse=True)[1]
    masks = tuple(root / rows[item]["mask_path"] if rows[item]["mask_path"] else None for item in items)
    return LabelledSplit(name, tuple(root / item for item in items), anomalous, things, masks)


def elpv_images() -> Path:
    found = importlib.util.find_spec("elpv_dataset")
    if found is None or not found.submodule_search_locations:
        raise FileNotFoundError("the ELPV splits need the package elpv-dataset (CC BY-NC-SA)")
    return Path(found.submodule_search_locations[0]) / "data" / "images"
