"""Made-up patch descriptors with a known truth: textures of one kind, some images with an odd corner."""

import numpy as np
from numpy.typing import NDArray

from siftline_workers.methods.features import PatchFeatures

SIDE, DIM = 6, 12


def texture_images(n: int, odd: int = 0, seed: int = 0) -> PatchFeatures:
    """n images of SIDE x SIDE patches; the last `odd` of them carry four patches far off somewhere."""
    rng = np.random.default_rng(seed)
    layout = rng.normal(size=(1, SIDE, SIDE, DIM))
    maps = layout + 0.5 * rng.normal(size=(n, SIDE, SIDE, DIM))
    for i in range(n - odd, n):
        row, column = rng.integers(0, SIDE - 1, 2)
        maps[i, row : row + 2, column : column + 2] += 4 * rng.normal(size=DIM)
    return PatchFeatures.from_grids([f"image-{i:03d}" for i in range(n)], list(maps.astype(np.float16)))


def picked(
    features: PatchFeatures, order: NDArray[np.int64] | list[int], ids: list[str] | None = None
) -> PatchFeatures:
    """The images at `order`, under their own ids or new ones."""
    maps = [features.of(int(i)).reshape(*features.grid(int(i)), -1) for i in order]
    return PatchFeatures.from_grids(ids or [features.ids[i] for i in order], maps)
