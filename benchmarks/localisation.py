"""How well maps lie on the defects: pixel AUROC and per-region overlap, against masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import label
from sklearn.metrics import roc_auc_score

SIDE = 128
"""Maps and masks are compared on this many pixels a side, whatever the image's shape."""

Maps = NDArray[np.float32]
Masks = NDArray[np.bool_]


def resized_map(heat: NDArray[np.float32]) -> NDArray[np.float32]:
    """(rows, columns) -> (SIDE, SIDE), bilinear."""
    resized = Image.fromarray(heat.astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.asarray(resized, dtype=np.float32)


def mask_of(path: Path | None) -> NDArray[np.bool_]:
    """(SIDE, SIDE); a cell is defective when any of its pixels is, so that thin cracks do not vanish."""
    if path is None:
        return np.zeros((SIDE, SIDE), bool)
    mask = np.asarray(Image.open(path).convert("L")) > 127
    rows = np.arange(mask.shape[0]) * SIDE // mask.shape[0]
    columns = np.arange(mask.shape[1]) * SIDE // mask.shape[1]
    out = np.zeros((SIDE, SIDE), bool)
    where = np.argwhere(mask)
    out[rows[where[:, 0]], columns[where[:, 1]]] = True
    return out


def pixel_auroc(maps: Maps, masks: Masks) -> float:
    """Over all pixels of all (N, SIDE, SIDE) maps."""
    return float(roc_auc_score(masks.ravel(), maps.ravel()))


def per_region_overlap(maps: Maps, masks: Masks, up_to_fpr: float = 0.3, thresholds: int = 200) -> float:
    """PRO (Bergmann et al., IJCV 2021): mean overlap of connected regions, integrated up to a false-positive
    rate and divided by it.
    """
    regions = []
    for heat, mask in zip(maps, masks, strict=True):
        numbered, count = label(mask)
        regions += [np.sort(heat[numbered == i]) for i in range(1, count + 1)]
    good = np.sort(maps[~masks])
    rates = np.linspace(0.0, up_to_fpr, thresholds)
    at = np.quantile(good, 1.0 - rates)
    overlaps = [np.mean([1 - np.searchsorted(r, t, side="right") / len(r) for r in regions]) for t in at]
    return float(np.trapezoid(overlaps, rates) / up_to_fpr)
