"""Checkpoints without a disk."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


class MemoryKeeper(dict[str, Mapping[str, NDArray[Any]]]):
    """Copies in and out: what a killed process would find on disk."""

    def load(self, name: str) -> Mapping[str, NDArray[Any]] | None:
        arrays = self.get(name)
        return None if arrays is None else {key: array.copy() for key, array in arrays.items()}

    def save(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        self[name] = {key: np.array(array) for key, array in arrays.items()}
