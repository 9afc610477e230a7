"""From torch to OpenVINO. Imports most of torch: only for a network that was not compiled before."""

from __future__ import annotations

from typing import Any

import openvino
import torch
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder
from openvino.frontend.pytorch.torchdynamo.export_decompositions import ops_to_not_decompose
from torch import nn
from torch.export.decomp_utils import CustomDecompTable


def converted(module: nn.Module, example: torch.Tensor) -> openvino.Model:
    """The network as an OpenVINO model of fixed input shape.

    Not `openvino.convert_model`: that one reports every use to Google Analytics unless told otherwise.
    """
    table: Any = CustomDecompTable()  # type: ignore[no-untyped-call]  # torch's
    for op in ops_to_not_decompose():
        if op in table:
            table.pop(op)
    with torch.no_grad():
        program = torch.export.export(module, (example,)).run_decompositions(table)
    frontend = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchFXPythonDecoder(program.module(), dynamic_shapes=False)  # the C++ side keeps no reference
    model = frontend.convert(frontend.load(decoder))
    model.reshape(list(example.shape))
    return model
