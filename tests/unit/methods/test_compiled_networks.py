"""A network is converted once: what was kept gives the same bits, and what is damaged is made anew."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from siftline_workers.methods.backbones import load_backbone, preset_named
from siftline_workers.pipeline.checkpoints import Checkpoints

TILES = np.random.default_rng(0).integers(0, 256, (2, 256, 256, 3), dtype=np.uint8)

FROM_WHAT_WAS_KEPT = """
import sys
from pathlib import Path
from siftline_workers.methods.backbones import load_backbone, preset_named
from siftline_workers.pipeline import purify
from siftline_workers.pipeline.checkpoints import Checkpoints

load_backbone(preset_named("lite"), None, "cpu", Checkpoints(Path(sys.argv[1]), "network"))
print(*({"timm", "torchvision", "sympy", "torch._dynamo"} & set(sys.modules)))
"""


def test_a_kept_network_gives_the_same_bits_and_spares_the_conversion_and_its_imports(tmp_path: Path) -> None:
    converted = load_backbone(preset_named("lite"), None, "cpu")
    keeper = Checkpoints(tmp_path, "network")
    first = load_backbone(preset_named("lite"), None, "cpu", keeper)
    kept = load_backbone(preset_named("lite"), None, "cpu", keeper)
    assert converted.fingerprint == first.fingerprint == kept.fingerprint
    told = converted.patch_features(TILES)
    assert (first.patch_features(TILES) == told).all()
    assert (kept.patch_features(TILES) == told).all()
    command = [sys.executable, "-c", FROM_WHAT_WAS_KEPT, str(tmp_path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == []


def test_a_damaged_or_foreign_one_is_made_anew(tmp_path: Path) -> None:
    keeper = Checkpoints(tmp_path, "network")
    told = load_backbone(preset_named("lite"), None, "cpu", keeper).patch_features(TILES)
    (file,) = keeper.folder.iterdir()
    keeper.save(file.stem, {"compiled": np.zeros(100, np.uint8)})
    again = load_backbone(preset_named("lite"), None, "cpu", keeper)
    assert (again.patch_features(TILES) == told).all()
    assert file.stat().st_size > 1_000_000
