"""What work in this process costs in processor time and memory. Linux alone."""

from __future__ import annotations

import ctypes
import gc
import re
from dataclasses import dataclass
from pathlib import Path
from time import process_time


@dataclass(frozen=True, slots=True)
class Cost:
    """Of training."""

    cpu_s: float
    peak_mib: float
    """Of the whole process, with the features of both parts."""


class Meter:
    """Begun when it is made."""

    def __init__(self) -> None:
        gc.collect()
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # else what scoring freed counts for the next method
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        self._began = process_time()

    def cost(self) -> Cost:
        cpu_s = process_time() - self._began
        peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        assert peak is not None  # noqa: S101  # Linux has it
        return Cost(round(cpu_s, 1), round(int(peak[1]) / 1024))
