"""One split of the benchmark, with what its parts share computed once."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from benchmarks.data import LabelledSplit, load_split
from siftline_workers.methods import projection
from siftline_workers.methods.backbones import Backbone
from siftline_workers.methods.features import PatchFeatures
from siftline_workers.pipeline.checkpoints import Checkpoints
from siftline_workers.pipeline.extract import extract
from siftline_workers.pipeline.feature_cache import FeatureCache
from siftline_workers.pipeline.ranking import SHARES, Ranking, RankOptions, rank
from siftline_workers.pipeline.stages import Stages


@dataclass(frozen=True)
class Case:
    """A split by name; its truth is for measuring only."""

    name: str
    backbone: Backbone
    cache: FeatureCache

    @cached_property
    def split(self) -> LabelledSplit:
        return load_split(self.name)

    @cached_property
    def test(self) -> LabelledSplit:
        return load_split(self.name, "test")

    @cached_property
    def features(self) -> PatchFeatures:
        return extract(self.split.stored(), self.backbone, self.cache, lambda _share: None)

    @cached_property
    def test_features(self) -> PatchFeatures:
        return extract(self.test.stored(), self.backbone, self.cache, lambda _share: None)

    @cached_property
    def projected(self) -> PatchFeatures:
        """What the rivals see: the same features in the same axes."""
        return projection.project(self.features, projection.fit(self.features))

    @cached_property
    def ranking(self) -> Ranking:
        return self._ranked[0]

    @cached_property
    def seconds(self) -> float:
        """Wall time of the ranking, features apart."""
        return self._ranked[1]

    @cached_property
    def _ranked(self) -> tuple[Ranking, float]:
        with tempfile.TemporaryDirectory() as folder:
            features = self.features
            began = perf_counter()
            stages = Stages(SHARES, lambda _stage, _share: None)
            ranking = rank(features, RankOptions(), Checkpoints(Path(folder), "benchmark"), stages)
            return ranking, perf_counter() - began

    @cached_property
    def suspect(self) -> NDArray[np.bool_]:
        return np.array([verdict == "suspect" for verdict in self.ranking.split.verdict])
