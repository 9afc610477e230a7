"""Which detectors there are, by the name that users give as `method`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from siftline_workers.methods.cdd import CDD
from siftline_workers.methods.detectors import Method
from siftline_workers.methods.funad_detector import FUNAD

DETECTORS: Mapping[str, Method] = MappingProxyType({"cdd": CDD, "funad": FUNAD})
