"""Where a long piece of work stands: which stage, how far overall, and how long each stage took."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

Report = Callable[[str, float], None]
Progress = Callable[[float], None]


class Stages:
    """Turns each stage's own 0..1 into the whole work's, by the share of time each stage is known to take.

    `report(stage, overall)` may raise to cancel; it is called at the start of each stage at the latest.
    """

    def __init__(self, shares: Mapping[str, float], report: Report) -> None:
        self.seconds: dict[str, float] = {}
        self._shares = shares
        self._total = sum(shares.values())
        self._report = report
        self._done = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[Progress]:
        """The stage `name` of the shares; yields what the stage calls with its own progress."""
        share = self._shares[name] / self._total
        done = self._done

        def progress(fraction: float) -> None:
            self._report(name, done + share * min(max(fraction, 0.0), 1.0))

        progress(0.0)
        began = time.monotonic()
        yield progress
        self.seconds[name] = round(time.monotonic() - began, 3)
        self._done = done + share


def part(progress: Progress, begin: float, end: float) -> Progress:
    """What to call with the progress of a part that is the stage's share from `begin` to `end`."""
    return lambda fraction: progress(begin + (end - begin) * fraction)
