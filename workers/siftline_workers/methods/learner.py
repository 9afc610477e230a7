"""One network and its optimiser: a step, a copy, and all its state as arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from siftline_workers.methods.distillation import Student
from siftline_workers.methods.neighbours import search_precision


def drawn(student: nn.Module, maps: Sequence[Tensor]) -> list[Tensor]:
    """A student's guesses while it learns, float32.

    In between bfloat16 where the processor multiplies it itself: 7.5 ms of one core, not 12.4, for a step
    on one tile of `lite`. Detectors score in float32.
    """
    fast = maps[0].device.type == "cpu" and search_precision() == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=fast):
        guesses = student(maps)
    return [guess.float() for guess in guesses]


class Learner:
    """Adam as RD4AD sets it: betas .5 and .999."""

    def __init__(self, model: Student) -> None:
        self.model = model.train()
        self.optimiser = self._fresh()

    def _fresh(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.model.parameters(), betas=(0.5, 0.999), fused=True)

    def step(self, loss: Callable[[Student], Tensor], learning_rate: float) -> float:
        """One update on what `loss` says of the model; the loss."""
        self.model.train()
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate
        value = loss(self.model)
        self.optimiser.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]  # torch's
        self.optimiser.step()
        return float(value.detach())

    def become(self, other: Learner) -> None:
        """A copy of the other's network, batch norms' statistics with it, and an optimiser without a past."""
        self.model.load_state_dict(other.model.state_dict())
        self.optimiser = self._fresh()

    def arrays(self, prefix: str) -> dict[str, NDArray[Any]]:
        state = {f"{prefix}/model/{name}": t for name, t in self.model.state_dict().items()}
        for i, moments in self.optimiser.state_dict()["state"].items():
            state |= {f"{prefix}/adam/{i}/{name}": t for name, t in moments.items()}
        return {name: t.detach().cpu().numpy().copy() for name, t in state.items()}

    def restore(self, arrays: Mapping[str, NDArray[Any]], prefix: str) -> None:
        """What `arrays` gave. RuntimeError when it is of another network."""
        kept = {
            name.removeprefix(f"{prefix}/"): torch.from_numpy(np.array(array))
            for name, array in arrays.items()
            if name.startswith(f"{prefix}/")
        }
        state = {name.removeprefix("model/"): t for name, t in kept.items() if name.startswith("model/")}
        self.model.load_state_dict(state)
        moments: dict[int, dict[str, Tensor]] = {}
        parameters = list(self.model.parameters())
        for name, t in kept.items():
            if name.startswith("adam/"):
                _, i, kind = name.split("/")
                # Laid out in memory as the parameter is: the fused update runs over both side by side.
                like = t if t.dim() == 0 else torch.empty_like(parameters[int(i)]).copy_(t)
                moments.setdefault(int(i), {})[kind] = like
        self.optimiser = self._fresh()
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": moments, "param_groups": groups})
