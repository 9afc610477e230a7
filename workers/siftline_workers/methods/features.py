"""Patch descriptors of a set of images: what every method reads and the only thing it reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from mmap import MADV_DONTNEED, mmap

import numpy as np
import torch
from numpy.typing import NDArray

from siftline.domain.scores import ImageId

LET_GO_IMAGES = 512
"""Who reads a whole set image by image lets its memory go after so many."""


@dataclass(frozen=True, slots=True)
class PatchFeatures:
    """Patch descriptors of N images, ragged: a wide image is several square tiles, so it has more patches.

    Every patch row belongs to exactly one image and image i's rows are contiguous and row-major over its
    grid. ValueError when the parts do not fit each other. Values are checked for finiteness where they are
    made.
    """

    ids: tuple[ImageId, ...]
    """N unique ids."""
    patches: NDArray[np.float16]
    """(sum of P_i, D); may be a read-only np.memmap. Image i owns rows offsets[i]:offsets[i+1]."""
    offsets: NDArray[np.int64]
    """(N+1,), from 0 to the number of patches."""
    grids: NDArray[np.int32]
    """(N, 2): rows and columns of image i's patch grid; P_i = rows * columns."""

    def __post_init__(self) -> None:
        n = len(self.ids)
        if len(set(self.ids)) != n:
            raise ValueError("image ids must be unique")
        if self.patches.ndim != 2 or self.patches.dtype != np.float16:
            raise ValueError(
                f"patches must be (patches, dim) float16, got {self.patches.shape} {self.patches.dtype}"
            )
        if self.offsets.shape != (n + 1,) or self.offsets.dtype != np.int64:
            raise ValueError(
                f"offsets must be ({n + 1},) int64, got {self.offsets.shape} {self.offsets.dtype}"
            )
        if self.grids.shape != (n, 2) or self.grids.dtype != np.int32:
            raise ValueError(f"grids must be ({n}, 2) int32, got {self.grids.shape} {self.grids.dtype}")
        if self.offsets[0] != 0 or self.offsets[-1] != len(self.patches):
            raise ValueError("offsets must run from 0 to the number of patches")
        per_image = np.prod(self.grids, axis=1, dtype=np.int64)
        if (per_image < 1).any() or not np.array_equal(np.diff(self.offsets), per_image):
            raise ValueError(
                "each image's grid must have as many cells as the image has patches, at least one"
            )

    @property
    def n_images(self) -> int:
        return len(self.ids)

    @property
    def n_patches(self) -> int:
        return len(self.patches)

    @property
    def dim(self) -> int:
        return int(self.patches.shape[1])

    @property
    def image_index(self) -> NDArray[np.int32]:
        """(patches,): for each patch row, the position in `ids` of the image that owns it."""
        return np.repeat(np.arange(self.n_images, dtype=np.int32), np.diff(self.offsets))

    def of(self, i: int) -> NDArray[np.float16]:
        """(P_i, D): the rows of image i, a view."""
        return self.patches[self.offsets[i] : self.offsets[i + 1]]

    def wide(self, i: int) -> NDArray[np.float32]:
        """(P_i, D): the rows of image i in float32, a copy."""
        return float32(self.of(i))

    def first(self, n: int) -> PatchFeatures:
        """The first n images, a view."""
        rows = self.patches[: self.offsets[n]]
        return PatchFeatures(self.ids[:n], rows, self.offsets[: n + 1], self.grids[:n])

    def let_go(self) -> None:
        """Give the memory in which mapped rows were read back to the system; they can be read again.

        A process that has looked at every row once would otherwise seem to hold the whole file.
        """
        mapped: object = self.patches
        while isinstance(mapped, np.ndarray):  # `first` gives views of views
            mapped = mapped.base
        if isinstance(mapped, mmap):
            mapped.madvise(MADV_DONTNEED)

    def grid(self, i: int) -> tuple[int, int]:
        """Rows and columns of image i's patch grid."""
        return int(self.grids[i, 0]), int(self.grids[i, 1])

    @classmethod
    def from_grids(cls, ids: Sequence[ImageId], maps: Sequence[NDArray[np.float16]]) -> PatchFeatures:
        """From one (rows, columns, D) array per image, copied into memory."""
        if len(ids) != len(maps):
            raise ValueError(f"{len(ids)} ids for {len(maps)} images")
        if not maps:
            raise ValueError("no images")
        grids = np.array([m.shape[:2] for m in maps], dtype=np.int32)
        offsets = np.concatenate([[0], np.cumsum(np.prod(grids, axis=1, dtype=np.int64))]).astype(np.int64)
        patches = np.concatenate([m.reshape(-1, m.shape[2]) for m in maps]).astype(np.float16, copy=False)
        return cls(tuple(ids), patches, offsets, grids)


def float32(values: NDArray[np.float16]) -> NDArray[np.float32]:
    """A copy in float32. torch makes it 20 times faster than numpy, but not of memory it may not write."""
    if not values.flags.writeable:
        return values.astype(np.float32)
    wide: NDArray[np.float32] = torch.from_numpy(values).float().numpy()
    return wide
