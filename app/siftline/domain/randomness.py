"""Randomness that follows the image, not its place in the list: permuting the input permutes the output."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from siftline.domain.scores import ImageId

_POISSON = np.cumsum([0.36787944117144233 / f for f in (1, 1, 2, 6, 24, 120, 720, 5040, 40320, 362880)])
"""P(at most k) of a Poisson variable of mean 1, k = 0, 1, ..; beyond 9 lies one in ten million."""


def image_keys(ids: Sequence[ImageId], seed: int, purpose: str) -> NDArray[np.uint64]:
    """(N,) one uniform 64-bit key per image, the same wherever the image stands in the list."""
    salt = f"{seed}/{purpose}/".encode()
    digests = (hashlib.blake2b(salt + i.encode(), digest_size=8).digest() for i in ids)
    return np.frombuffer(b"".join(digests), dtype=np.uint64)


def resampled(keys: NDArray[np.uint64], seed: int, draws: int) -> Iterator[NDArray[np.int64]]:
    """`draws` times (N,) how often each of N things, known by its key, stands in a resampled set.

    A Poisson bootstrap (Chamandy et al., Google 2012): each thing is drawn by itself, so neither order nor
    neighbours matter, and in a set that has grown the things of before are drawn as before.
    """
    for salt in np.random.default_rng(seed).integers(0, 2**64, draws, dtype=np.uint64):
        uniform = _mixed(keys ^ salt) / 2.0**64
        yield np.searchsorted(_POISSON, uniform, side="right")


def _mixed(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finalizer of SplitMix64 (Steele et al., OOPSLA 2014): keys that differ in a bit end unlike."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        keys = (keys ^ (keys >> np.uint64(shift))) * np.uint64(factor)
    return keys ^ (keys >> np.uint64(31))
