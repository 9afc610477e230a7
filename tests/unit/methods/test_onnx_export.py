"""Small networks through the real exporter and the real runtime."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from siftline_workers.methods.onnx_export import ExportDiffers, export, parity

TILES = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)


class Brightness(nn.Module):
    """`offset` is read by Python while tracing: changed later, the file knows nothing of it."""

    offset = 0.0

    def forward(self, tiles: Tensor) -> tuple[Tensor, Tensor]:
        grey = tiles.to(torch.float32).mean(3) / 255 + self.offset
        return grey, grey.flatten(1).amax(1)


class Traitor(Brightness):
    """Answers differently once it is exported."""

    def forward(self, tiles: Tensor) -> tuple[Tensor, Tensor]:
        maps, scores = super().forward(tiles)
        return (maps, scores) if torch.compiler.is_compiling() else (maps + 0.01, scores)


class NotANumber(Brightness):
    def forward(self, tiles: Tensor) -> tuple[Tensor, Tensor]:
        maps, scores = super().forward(tiles)
        return torch.log(maps - 2), scores


def test_the_file_answers_as_the_network_does(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    found = export(Brightness().eval(), 8, path, TILES)
    assert found.relative < 1e-5
    assert found.spread == pytest.approx(np.ptp(TILES.mean(3)) / 255, rel=1e-4)


def test_the_file_says_what_it_is_and_nothing_of_this_machine(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    export(Brightness().eval(), 8, path, TILES)
    model = onnx.load(path)
    assert (model.producer_name, model.producer_version) == ("siftline", "1")
    assert {entry.key: entry.value for entry in model.metadata_props} == {"schema_version": "1"}
    assert [i.name for i in model.graph.input] == ["tile"]
    assert [o.name for o in model.graph.output] == ["map", "score"]
    assert b".py" not in path.read_bytes()


@pytest.mark.parametrize("network", [Traitor, NotANumber])
def test_a_file_that_differs_is_refused_and_not_left_behind(
    network: type[Brightness], tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(ExportDiffers, match="at most"):
        export(network().eval(), 8, path, TILES)
    assert not path.exists()


def test_the_difference_is_measured_against_the_spread_of_the_map(tmp_path: Path) -> None:
    path, network = tmp_path / "model.onnx", Brightness().eval()
    export(network, 8, path, TILES)
    network.offset = 0.25
    found = parity(network, path, TILES)
    assert found.map == pytest.approx(0.25, rel=1e-4)
    assert found.score == pytest.approx(0.25, rel=1e-4)
    assert found.relative == pytest.approx(0.25 / found.spread)


@pytest.mark.parametrize("tiles", [TILES[:0], TILES[:, :4], TILES.astype(np.float32)])
def test_tiles_of_another_make_are_refused(tiles: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="tiles must be"):
        export(Brightness().eval(), 8, tmp_path / "model.onnx", tiles)
