"""Randomness that follows the image, not its place in the list: permuting the input permutes the output."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from siftline.domain.scores import ImageId

Progress = Callable[[float], None]
"""Called with the share done, 0..1, at least once a second of work. It may raise to cancel."""


def ignore_progress(_share: float) -> None:
    """For callers that do not watch."""


def image_keys(ids: Sequence[ImageId], seed: int, purpose: str) -> NDArray[np.uint64]:
    """(N,) one uniform 64-bit key per image, the same wherever the image stands in the list."""
    salt = f"{seed}/{purpose}/".encode()
    digests = (hashlib.blake2b(salt + i.encode(), digest_size=8).digest() for i in ids)
    return np.frombuffer(b"".join(digests), dtype=np.uint64)


def shuffled(ids: Sequence[ImageId], seed: int, purpose: str) -> NDArray[np.int64]:
    """(N,) positions in a random order that depends on the ids alone."""
    return np.lexsort((np.array(ids, dtype=np.str_), image_keys(ids, seed, purpose)))


def image_rng(image_id: ImageId, seed: int, purpose: str) -> np.random.Generator:
    """A generator of the image's own."""
    return np.random.default_rng(int(image_keys([image_id], seed, purpose)[0]))
