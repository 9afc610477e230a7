"""Two ways to run a frozen network: OpenVINO on a CPU, torch with autocast on a GPU.

Same image, same answer: a tile's features do not depend on the tiles it travels with. Measured on 2 cores
(AMD EPYC, EfficientNet-Lite0, 256 px, other work running): float32 249 tiles/s with batch 1 on two streams,
164 with batch 8, 133 with batch 32, against about 15 in eager torch. bfloat16 gives 457, but its features
differ by 10 % in norm from float32's (which agree with torch to 2e-6), and only on CPUs that have it: not
worth an answer that depends on the machine. So: float32, batch 1, streams.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from threading import Lock
from typing import Any, Protocol

import numpy as np
import openvino
import torch
from numpy.typing import NDArray
from torch import nn

from siftline_workers.methods.pieces import Keeper

_CUDA_BATCH = 16
_OPTIONS = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}


class Engine(Protocol):
    """Runs one network on tiles (B, S, S, 3) uint8, giving (B, P, D) float16."""

    tag: str
    """Names arithmetic and precision; part of the fingerprint, so answers of two kinds are never mixed."""

    def __call__(self, tiles: NDArray[np.uint8]) -> NDArray[np.float16]: ...


class OpenVinoEngine:
    """The CPU engine. Safe to call from several threads, one at a time gets in."""

    tag = "openvino-f32"

    def __init__(self, compiled: openvino.CompiledModel) -> None:
        self._patches, self._dim = (int(n) for n in compiled.output(0).shape[1:])
        self._queue = openvino.AsyncInferQueue(compiled)
        self._lock = Lock()

    def __call__(self, tiles: NDArray[np.uint8]) -> NDArray[np.float16]:
        out = np.empty((len(tiles), self._patches, self._dim), dtype=np.float16)

        def store(request: Any, position: int) -> None:
            with np.errstate(over="ignore"):  # an overflow becomes inf, which the caller refuses by image
                out[position] = request.get_output_tensor(0).data[0]

        with self._lock:
            self._queue.set_callback(store)
            try:
                for position in range(len(tiles)):
                    self._queue.start_async({0: tiles[position : position + 1]}, position)
            finally:
                self._queue.wait_all()
        return out


def compiled_network(
    network: Callable[[], nn.Module], side: int, name: str, keeper: Keeper | None
) -> openvino.CompiledModel:
    """The network for tiles of `side` pixels: as `keeper` has it under `name` and this machine's own, where
    one is given, with the same bits; else converted, which takes seconds, half of them for imports.
    """
    core = openvino.Core()
    makers = (openvino.__version__, torch.__version__, core.get_property("CPU", "FULL_DEVICE_NAME"))
    piece = hashlib.sha256("\0".join((name, *makers)).encode()).hexdigest()[:16]
    kept = None if keeper is None else keeper.load(piece)
    if kept is not None:
        # What another processor's name hides is refused here; then it is made anew.
        with suppress(RuntimeError):
            return core.import_model(kept["compiled"].tobytes(), "CPU", _OPTIONS)
    from siftline_workers.methods.conversion import converted  # noqa: PLC0415 - imports most of torch

    model = converted(network(), torch.zeros((1, side, side, 3), dtype=torch.uint8))
    compiled = core.compile_model(model, "CPU", _OPTIONS)
    if keeper is not None:
        exported = BytesIO()
        compiled.export_model(exported)
        keeper.save(piece, {"compiled": np.frombuffer(exported.getbuffer(), np.uint8)})
    return compiled


class TorchEngine:
    """The GPU engine: float16 autocast, channels_last, one fixed batch shape so company changes nothing."""

    def __init__(self, module: nn.Module, device: torch.device, half: bool = True) -> None:
        self.tag = f"torch-{device.type}-{'f16' if half else 'f32'}"
        self._module = module.to(device).to(memory_format=torch.channels_last)
        self._device = device
        self._half = half

    def __call__(self, tiles: NDArray[np.uint8]) -> NDArray[np.float16]:
        parts = [self._batch(tiles[i : i + _CUDA_BATCH]) for i in range(0, len(tiles), _CUDA_BATCH)]
        return np.concatenate(parts)

    @torch.inference_mode()
    def _batch(self, tiles: NDArray[np.uint8]) -> NDArray[np.float16]:
        padded = np.zeros((_CUDA_BATCH, *tiles.shape[1:]), dtype=np.uint8)
        padded[: len(tiles)] = tiles
        batch = torch.from_numpy(padded).to(self._device, non_blocking=True)
        with torch.autocast(self._device.type, dtype=torch.float16, enabled=self._half):
            out = self._module(batch)
        features: NDArray[np.float16] = out[: len(tiles)].to(torch.float16).cpu().numpy()
        return features
