"""A network is converted once: what was kept gives the same bits, and what is damaged is made anew."""

import subprocess
import sys

import numpy as np
import pytest

from siftline_workers.methods.backbones import Backbone, load_backbone, preset_named
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


@pytest.fixture(scope="module")
def keeper(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    return Checkpoints(tmp_path_factory.mktemp("kept"), "network")


@pytest.fixture(scope="module")
def converted(keeper: Checkpoints) -> Backbone:
    """By the first who needs it, who keeps it for the others."""
    return load_backbone(preset_named("lite"), None, "cpu", keeper)


def test_a_kept_network_gives_the_same_bits_and_spares_the_conversion_and_its_imports(
    converted: Backbone, keeper: Checkpoints
) -> None:
    kept = load_backbone(preset_named("lite"), None, "cpu", keeper)
    assert kept.fingerprint == converted.fingerprint
    assert (kept.patch_features(TILES) == converted.patch_features(TILES)).all()
    command = [sys.executable, "-c", FROM_WHAT_WAS_KEPT, str(keeper.folder.parent)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == []


def test_a_damaged_or_foreign_one_is_made_anew(converted: Backbone, keeper: Checkpoints) -> None:
    (file,) = keeper.folder.iterdir()
    keeper.save(file.stem, {"compiled": np.zeros(100, np.uint8)})
    again = load_backbone(preset_named("lite"), None, "cpu", keeper)
    assert (again.patch_features(TILES) == converted.patch_features(TILES)).all()
    assert file.stat().st_size > 1_000_000
