"""Scores that carry the ids they belong to, so that no join by position can ever go wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ImageId = str
"""A UUID's canonical text in the service; any unique string elsewhere."""


@dataclass(frozen=True, slots=True)
class ScoredImages:
    """One score per image, high = suspect. ValueError on repeated ids, lengths that differ, NaN, infinity."""

    ids: tuple[ImageId, ...]
    values: NDArray[np.float32]
    """(N,)"""

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.ids),):
            raise ValueError(f"{len(self.ids)} ids but scores of shape {self.values.shape}")
        if len(set(self.ids)) != len(self.ids):
            raise ValueError("image ids must be unique")
        if not np.isfinite(self.values).all():
            raise ValueError("scores must be finite")

    def ranking(self) -> tuple[ImageId, ...]:
        """Ids, most suspect first; equal scores in the order of their ids."""
        order = sorted(range(len(self.ids)), key=lambda i: (-float(self.values[i]), self.ids[i]))
        return tuple(self.ids[i] for i in order)

    def by_id(self) -> dict[ImageId, float]:
        """id -> score."""
        return {image_id: float(value) for image_id, value in zip(self.ids, self.values, strict=True)}

    def aligned_to(self, ids: tuple[ImageId, ...]) -> NDArray[np.float32]:
        """The values in the order of `ids`. KeyError for an id that has no score."""
        if ids == self.ids:
            return self.values
        values = self.by_id()
        return np.array([values[image_id] for image_id in ids], dtype=np.float32)
