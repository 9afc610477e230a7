"""What is drawn from an image's own key: orders and generators. And what tells how far a method is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from siftline.domain.randomness import image_keys
from siftline.domain.scores import ImageId

Progress = Callable[[float], None]
"""Called with the share done, 0..1, at least once a second of work. It may raise to cancel."""


def ignore_progress(_share: float) -> None:
    """For callers that do not watch."""


def shuffled(ids: Sequence[ImageId], seed: int, purpose: str) -> NDArray[np.int64]:
    """(N,) positions in a random order that depends on the ids alone."""
    return np.lexsort((np.array(ids, dtype=np.str_), image_keys(ids, seed, purpose)))


def image_rng(image_id: ImageId, seed: int, purpose: str) -> np.random.Generator:
    """A generator of the image's own."""
    return np.random.default_rng(int(image_keys([image_id], seed, purpose)[0]))
