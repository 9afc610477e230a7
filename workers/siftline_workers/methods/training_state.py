"""A network in training as named arrays, and back: what a killed training needs to go on bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


def packed(
    network: nn.Module, optimiser: torch.optim.Optimizer, random: torch.Generator
) -> dict[str, NDArray[Any]]:
    """Weights, the optimiser's state and the state of the generator."""
    arrays = {f"network.{name}": t.detach().numpy() for name, t in network.state_dict().items()}
    for i, state in optimiser.state_dict()["state"].items():
        arrays |= {f"optimiser.{i}.{name}": t.numpy() for name, t in state.items()}
    return arrays | {"random": random.get_state().numpy()}


def unpack(
    kept: Mapping[str, NDArray[Any]],
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    random: torch.Generator,
) -> None:
    """Put what `packed` gave back into a network, an optimiser and a generator of the same make."""
    weights = {}
    state: dict[int, dict[str, Tensor]] = {}
    for key, array in kept.items():
        part, _, name = key.partition(".")
        if part == "network":
            weights[name] = torch.from_numpy(np.array(array))
        elif part == "optimiser":
            i, _, name = name.partition(".")
            state.setdefault(int(i), {})[name] = torch.from_numpy(np.array(array))
    network.load_state_dict(weights)
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
    random.set_state(torch.from_numpy(np.array(kept["random"])))
