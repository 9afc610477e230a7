"""An exported detector run by OpenVINO on the CPU.

Same tile, same answer, whatever else is going on: float32, one tile at a time, and one thread for each
stream, so that no sum is ever cut into pieces by how many threads happen to be free. It is also the fastest
way: several streams of one tile did 249 tiles/s where batches of eight did 164 (2 cores, EfficientNet-Lite0).
"""

from __future__ import annotations

import os
from collections import deque
from functools import cache
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_THREADS = 16
"""Each holds its own activations, and no network of ours is worth more of them."""


def threads() -> int:
    """How many tiles are worth running at one time."""
    return min(len(os.sched_getaffinity(0)), MOST_THREADS)


_STARTING = Lock()


class NetworkUnusable(Exception):
    """The bytes are no network that can be run. Its text is for the log."""


class Network:
    """tile (S, S, 3) uint8 -> map (g, g) float32 and score, high = anomalous. Any thread may call it."""

    def __init__(self, onnx: bytes, side: int, grid: int) -> None:
        """Raises NetworkUnusable, also for a network of other sizes."""
        self._shape = [1, side, side, 3]
        options = {
            "NUM_STREAMS": threads(),
            "INFERENCE_NUM_THREADS": threads(),
            "INFERENCE_PRECISION_HINT": "f32",
            # Pinned, the first streams of all detectors would share one processor while others idle.
            "ENABLE_CPU_PINNING": False,
        }
        try:
            self._compiled = _core().compile_model(_core().read_model(onnx), "CPU", options)
            self._map, self._score = (self._compiled.output(name) for name in ("map", "score"))
            ports = (self._compiled.input("tile"), self._map, self._score)
            shapes = [list(port.shape) for port in ports]
        except RuntimeError as error:
            raise NetworkUnusable(str(error)) from error
        if shapes != [self._shape, [1, grid, grid], [1]]:
            raise NetworkUnusable(f"its shapes are {shapes}")
        self._idle: deque[Any] = deque()

    def __call__(self, tile: NDArray[np.uint8]) -> tuple[NDArray[np.float32], np.float32]:
        try:
            request = self._idle.pop()
        except IndexError:  # asked first, another thread could take the last one in between
            request = self._compiled.create_infer_request()
        request.infer({0: tile.reshape(self._shape)}, share_inputs=True)
        heat: NDArray[np.float32] = request.get_tensor(self._map).data[0].copy()
        score: np.float32 = request.get_tensor(self._score).data[0]
        self._idle.append(request)
        return heat, score


def _core() -> Any:
    with _STARTING:
        return _started()


@cache
def _started() -> Any:
    import openvino  # noqa: PLC0415 - half a second that only scoring should pay for

    # OpenVINO makes its table of types on first use, and gives the GIL away meanwhile. A second thread that
    # came then would wait for the table with the GIL in hand, and the process would stand still for ever.
    openvino.Type.u8.to_dtype()
    return openvino.Core()
