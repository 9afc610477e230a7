"""A cache entry is whole or missing, whatever happened to its file."""

from pathlib import Path

import numpy as np
import pytest

from siftline_workers.pipeline.feature_cache import FeatureCache

SHA = "ab" * 32
GRID = np.random.default_rng(0).normal(size=(4, 8, 5)).astype(np.float16)


def entry(folder: Path) -> Path:
    (path,) = folder.rglob("*.npy")
    return path


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path / "features")
    assert cache.load("f1", SHA) is None
    cache.save("f1", SHA, GRID)
    assert entry(tmp_path) == tmp_path / "features" / "f1" / "ab" / f"{SHA}.npy"
    loaded = FeatureCache(tmp_path / "features").load("f1", SHA)
    assert loaded is not None
    assert loaded.dtype == np.float16
    assert np.array_equal(loaded, GRID)
    assert np.array_equal(np.load(entry(tmp_path)), GRID)  # other programs can read it


def test_other_fingerprints_are_other_entries(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    cache.save("f1", SHA, GRID)
    assert cache.load("f2", SHA) is None


def test_a_file_cut_at_any_place_is_missing(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    cache.save("f1", SHA, GRID)
    whole = entry(tmp_path).read_bytes()
    for length in range(0, len(whole), 7):
        entry(tmp_path).write_bytes(whole[:length])
        assert cache.load("f1", SHA) is None


def test_a_flipped_byte_anywhere_is_noticed(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    cache.save("f1", SHA, GRID)
    whole = entry(tmp_path).read_bytes()
    for at in range(0, len(whole), 5):
        entry(tmp_path).write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert cache.load("f1", SHA) is None


def test_a_failed_save_leaves_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    cache = FeatureCache(tmp_path)
    monkeypatch.setattr(Path, "replace", no_space)
    with pytest.raises(OSError, match="No space"):
        cache.save("f1", SHA, GRID)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


@pytest.mark.parametrize("sha256", ["", "../../etc/passwd", "AB" * 32, "ab" * 31])
def test_keys_that_are_no_hash_are_refused(sha256: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a sha256"):
        FeatureCache(tmp_path).load("f1", sha256)


def test_an_entry_that_a_full_cache_loses_on_its_way_in_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, replace = FeatureCache(tmp_path), Path.replace

    def removed_first(self: Path, target: Path) -> Path:
        self.unlink()  # as garbage collection removes what is too much
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", removed_first)
    cache.save("f1", SHA, GRID)
    assert cache.load("f1", SHA) is None
