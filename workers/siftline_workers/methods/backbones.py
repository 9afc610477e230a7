"""Frozen backbones: which network, which layers, which grid. A fingerprint names the outcome.

Deviation from FUN-AD: its release resizes to 256 and crops the middle 224, which never looks at a part's
rim; we resize straight to 224. Of the papers' features: `dino-b8` is FUN-AD's, `dinov2-b14` the two
fused targets that LLBNAD's release distils, `wrn50` the teacher of RD and CDD with its two middle taps.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from siftline.imaging.tiles import PREPROCESSING_VERSION, join_tiles, tile_layout, to_tiles
from siftline_workers.methods.engines import Engine, OpenVinoEngine, TorchEngine, compiled_network
from siftline_workers.methods.pieces import Keeper
from siftline_workers.methods.weights import WeightsUnusable, load_network, packaged_lite_weights, sha256_of

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True, slots=True)
class Preset:
    """How patches of one network are made. Each group of taps is averaged, the groups are concatenated."""

    name: str
    timm_name: str
    side: int
    """Pixels of a square tile."""
    grid: int
    """Patches per tile side: a tile gives grid * grid patches."""
    taps: tuple[tuple[int, ...], ...]
    """Indices as `forward_intermediates` counts: stages of a conv net, blocks of a transformer."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    sized: bool = False
    """The network is built for its input size (transformers with a position embedding)."""
    final_norm: bool = False
    class_token: bool = False
    """Put the class token in front of every patch token, as FUN-AD does."""


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        preset.name: preset
        for preset in (
            Preset("lite", "tf_efficientnet_lite0", 256, 16, ((2,), (3,), (4,)), (0.5,) * 3, (0.5,) * 3),
            Preset("wrn50", "wide_resnet50_2", 256, 32, ((2,), (3,)), *_IMAGENET),
            Preset(
                "dino-b8", "vit_base_patch8_224.dino", 224, 28, ((11,),), *_IMAGENET,
                sized=True, final_norm=True, class_token=True,
            ),
            Preset(
                "dinov2-b14", "vit_base_patch14_reg4_dinov2.lvd142m", 392, 28, ((2, 3, 4, 5), (6, 7, 8, 9)),
                *_IMAGENET, sized=True,
            ),
        )
    }
)  # fmt: skip


def preset_named(name: str) -> Preset:
    """A preset by name, or `timm:<network>` for any other network of timm. ValueError with the choices."""
    if name in PRESETS:
        return PRESETS[name]
    if name.startswith("timm:"):
        return custom(name.removeprefix("timm:"))
    raise ValueError(f"unknown backbone {name!r}: choose {', '.join(PRESETS)}, or timm:<network>")


def custom(timm_name: str) -> Preset:
    """A preset for any timm network: input as it was trained, taps in the middle of the network.

    Conv nets: the stages at 1/8 and 1/16 of the input, at 256 px. Transformers: two groups of the middle
    two thirds of the blocks. ValueError when timm has no such network or it has no such taps.
    """
    import timm  # noqa: PLC0415 - takes seconds, and most runs find their network compiled

    try:
        with torch.device("meta"):
            network: Any = timm.create_model(timm_name, pretrained=False, num_classes=0)
    except RuntimeError as error:
        raise ValueError(f"timm does not know a network {timm_name!r}") from error
    config = network.pretrained_cfg
    if not hasattr(network, "forward_intermediates"):
        raise ValueError(f"{timm_name} does not show its inner layers; choose another network")
    steps = [int(stage["reduction"]) for stage in network.feature_info]
    sized = bool(config.get("fixed_input_size", False))
    side = int(config["input_size"][1]) if sized else 256
    if len(set(steps)) == 1:  # a plain transformer: every block at the same resolution
        first, last = len(steps) // 6, len(steps) - len(steps) // 6
        middle = (first + last) // 2
        taps, grid = (tuple(range(first, middle)), tuple(range(middle, last))), side // steps[0]
    elif {8, 16} <= set(steps):
        taps, grid = ((steps.index(8),), (steps.index(16),)), side // 16
    else:
        raise ValueError(f"{timm_name} has no stages at 1/8 and 1/16 of the input")
    mean, std = (tuple(float(v) for v in config[key]) for key in ("mean", "std"))
    return Preset(f"timm:{timm_name}", timm_name, side, grid, taps, mean, std, sized)  # type: ignore[arg-type]  # triples


class PatchEmbedder(nn.Module):
    """All from tiles (B, S, S, 3) uint8 to patches (B, P, D) float32, so that it can be exported whole."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, preset: Preset) -> None:
        super().__init__()
        self.network: Any = network
        self.preset = preset
        self.register_buffer("mean", 255.0 * torch.tensor(preset.mean).view(1, 3, 1, 1))
        self.register_buffer("std", 255.0 * torch.tensor(preset.std).view(1, 3, 1, 1))

    def forward(self, tiles: Tensor) -> Tensor:
        pixels = (tiles.permute(0, 3, 1, 2).to(torch.float32) - self.mean) / self.std
        maps, class_token = self._tapped(pixels)
        parts = []
        for group in self.preset.taps:
            mean = torch.stack([maps[tap] for tap in group]).mean(0) if len(group) > 1 else maps[group[0]]
            parts.append(_on_grid(mean, self.preset.grid))
        if class_token is not None:
            parts.insert(0, class_token[:, :, None, None].expand(-1, -1, self.preset.grid, self.preset.grid))
        return torch.cat(parts, dim=1).flatten(2).transpose(1, 2)

    def _tapped(self, pixels: Tensor) -> tuple[dict[int, Tensor], Tensor | None]:
        """Each tap's map (B, C, h, w), and the last tap's class token (B, C) if the preset wants it."""
        wanted = sorted(tap for group in self.preset.taps for tap in group)
        options = {
            "indices": wanted,
            "norm": self.preset.final_norm,
            "stop_early": True,
            "intermediates_only": True,
        }
        if not self.preset.class_token:
            return dict(zip(wanted, self.network.forward_intermediates(pixels, **options), strict=True)), None
        pairs = self.network.forward_intermediates(pixels, **options, return_prefix_tokens=True)
        return {tap: pair[0] for tap, pair in zip(wanted, pairs, strict=True)}, pairs[-1][1][:, 0]


def _on_grid(maps: Tensor, grid: int) -> Tensor:
    if maps.shape[-1] > grid:
        return F.adaptive_avg_pool2d(maps, grid)
    if maps.shape[-1] < grid:
        return F.interpolate(maps, size=(grid, grid), mode="bilinear", align_corners=False)
    return maps


@dataclass(frozen=True, slots=True)
class Backbone:
    """A loaded backbone. `fingerprint` changes whenever the features could."""

    preset: Preset
    fingerprint: str
    dim: int
    engine: Engine

    def patch_features(self, tiles: NDArray[np.uint8]) -> NDArray[np.float16]:
        """(B, S, S, 3) uint8 -> (B, grid*grid, dim) float16; a tile's answer is independent of the others."""
        if tiles.dtype != np.uint8 or tiles.shape[1:] != (self.preset.side, self.preset.side, 3):
            raise ValueError(
                f"tiles must be (B, {self.preset.side}, {self.preset.side}, 3) uint8, got {tiles.shape}"
            )
        return self.engine(tiles)

    def embed(self, rgb: NDArray[np.uint8]) -> NDArray[np.float16]:
        """(H, W, 3) uint8 of any shape -> its patch grid (rows, columns, dim) float16."""
        patches = self.patch_features(to_tiles(rgb, self.preset.side))
        return join_tiles(patches, tile_layout(*rgb.shape[:2]), self.preset.grid)


def find_weights(preset: Preset, weights_dir: Path | None) -> Path:
    """The preset's weights file. WeightsUnusable, saying how to provide it, when there is none."""
    stem = preset.name.removeprefix("timm:").replace("/", "_")
    candidates = (
        [weights_dir / f"{stem}{suffix}" for suffix in (".safetensors", ".pth")] if weights_dir else []
    )
    for path in candidates:
        if path.is_file():
            return path
    if preset.name == "lite":
        return packaged_lite_weights()
    place = candidates[0] if candidates else f"$SIFTLINE_WEIGHTS_DIR/{stem}.safetensors"
    raise WeightsUnusable(
        f"backbone {preset.name} needs the weights of timm's {preset.timm_name}; nothing is downloaded. "
        f"Put them at {place} (or .pth, a plain state dict)"
    )


def load_embedder(preset: Preset, weights: Path | None) -> PatchEmbedder:
    """The preset as a torch module, for export and for students. Raises WeightsUnusable."""
    path = weights or find_weights(preset, None)
    network = load_network(preset.timm_name, path, preset.side if preset.sized else None)
    return PatchEmbedder(network, preset).eval()


def load_backbone(
    preset: Preset, weights: Path | None, device: str = "auto", keeper: Keeper | None = None
) -> Backbone:
    """Ready to extract. `weights` None: the packaged ones (`lite` only). `device`: auto, cpu, cuda. With a
    `keeper` the network is converted for the CPU only once.

    Raises WeightsUnusable, and ValueError for a device this machine does not have.
    """
    path = weights or find_weights(preset, None)
    digest = sha256_of(path)
    name = fingerprint_of(preset, digest, OpenVinoEngine.tag)
    engine = choose_engine(lambda: load_embedder(preset, path), preset.side, device, name, keeper)
    dim = engine(np.zeros((1, preset.side, preset.side, 3), dtype=np.uint8)).shape[2]
    return Backbone(preset, fingerprint_of(preset, digest, engine.tag), dim, engine)


def choose_engine(
    network: Callable[[], nn.Module], side: int, device: str, name: str = "", keeper: Keeper | None = None
) -> Engine:
    """The engine for tiles of `side` pixels on `device` (auto, cpu, cuda); ValueError as `load_backbone`.
    Compiled for the CPU, the network may be kept under `name`.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device must be auto, cpu or cuda, not {device!r}")
    has_cuda = torch.cuda.is_available()
    if device == "cuda" and not has_cuda:
        raise ValueError("device cuda was asked for, but torch finds no CUDA device here")
    if has_cuda and device != "cpu":
        return TorchEngine(network(), torch.device("cuda"))
    return OpenVinoEngine(compiled_network(network, side, name, keeper))


def fingerprint_of(preset: Preset, weights_sha256: str, engine_tag: str) -> str:
    """32 hex digits over all that decides the features: preset, weights, arithmetic, pre-processing."""
    parts = {
        **asdict(preset),
        "weights": weights_sha256,
        "engine": engine_tag,
        "version": PREPROCESSING_VERSION,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
