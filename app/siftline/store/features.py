"""Where the features of images are kept: by what network made them and by the image's content alone, so
datasets with the same image share them.
"""

from collections.abc import Collection
from pathlib import Path


def feature_path(folder: Path, fingerprint: str, sha256: str) -> Path:
    return folder / fingerprint / sha256[:2] / f"{sha256}.npy"


def content_of(path: Path) -> str | None:
    """The SHA-256 of the image whose features the file holds; None for a file that is no entry."""
    return path.stem if path.suffix == ".npy" and len(path.stem) == 64 else None


def remove(folder: Path, hashes: Collection[str]) -> None:
    """Those of images with such content, whatever made them."""
    made_by = [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    for fingerprint in made_by:
        for sha256 in hashes:
            feature_path(folder, fingerprint, sha256).unlink(missing_ok=True)
