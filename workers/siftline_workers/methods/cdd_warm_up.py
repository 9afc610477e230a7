"""The first passes of CDD's domain students: each over its own domain, none knowing of the others.

So they are pieces (see `pieces`), and each follows from its images, the options and the seed alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from siftline.domain.jobs import Work
from siftline_workers.methods.learner import Learner
from siftline_workers.methods.pieces import Arrays, Keeper, Share, name_of
from siftline_workers.methods.seeding import Progress

SAVE_EVERY_S = 10.0
_PREFIX = "student"

Lesson = tuple[NDArray[np.int64], float]
"""Tiles of one step, and its learning rate."""


class _OutOfTime(Exception):
    pass


@dataclass(frozen=True, slots=True)
class WarmUp:
    fresh: Callable[[], Learner]
    """A student that knows nothing: the same one each time."""
    teach: Callable[[Learner, NDArray[np.int64], float], None]
    lessons: Sequence[Sequence[Lesson]]
    """Each domain's, in their order."""
    keeper: Keeper
    out_of_time: Callable[[], bool]

    def run(self, students: Sequence[Learner], share: Share, on_progress: Progress) -> None:
        """Bring all students to the end of their lessons; out of time, they stay as they were."""
        pieces = range(len(students))
        try:
            found = share(self.keeper, Work.DOMAIN, pieces, self._taught, on_progress)
        except _OutOfTime:
            return
        for student, arrays in zip(students, found, strict=True):
            student.restore(arrays, _PREFIX)

    def _taught(self, domain: int, on_progress: Progress) -> Arrays:
        """One student's state. Kept on the way: a killed worker, or helper, loses seconds."""
        begun = f"{name_of(Work.DOMAIN, domain)}-begun"
        student, done = self.fresh(), 0
        if (kept := self.keeper.load(begun)) is not None:
            student.restore(kept, _PREFIX)
            done = int(kept["done"])
        saved = monotonic()
        for step, (rows, rate) in enumerate(self.lessons[domain][done:], start=done + 1):
            on_progress((step - 1) / len(self.lessons[domain]))
            if self.out_of_time():
                raise _OutOfTime
            self.teach(student, rows, rate)
            if monotonic() - saved > SAVE_EVERY_S:
                self.keeper.save(begun, {"done": np.array(step), **student.arrays(_PREFIX)})
                saved = monotonic()
        return student.arrays(_PREFIX)
