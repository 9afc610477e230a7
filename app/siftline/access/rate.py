"""How often a key may ask: a token bucket each, in this process's memory.

Several API processes each allow the full rate; a limit over all of them belongs in the proxy before them. The
package `limits` has windows, which let twice their number through at a border, and no token bucket; this is
less code than its adapter would be.
"""

import time
from collections.abc import Callable, Hashable

MOST_REMEMBERED = 10_000


class Rate:
    """`burst` at once, then `per_s`. The generic cell rate algorithm: one number a key. Not thread-safe."""

    def __init__(self, per_s: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._every_s, self._burst_s = 1 / per_s, (burst - 1) / per_s
        self._clock = clock
        self._full_at: dict[Hashable, float] = {}

    def take(self, who: Hashable) -> float:
        """0 when granted, otherwise the seconds after which it would be."""
        at = self._clock()
        full_at = max(self._full_at.get(who, at), at)
        if (wait_s := full_at - at - self._burst_s) > 0:
            return wait_s
        if len(self._full_at) >= MOST_REMEMBERED:
            self._full_at = {one: when for one, when in self._full_at.items() if when > at}
        self._full_at[who] = full_at + self._every_s
        return 0.0
