"""Cross-domain distillation, the training: domain students teach a global student what is normal.

After Liu, Wang, Leng and Zhang (arXiv 2508.18007), who have released no code, and whose abstract is all that
was available; own code. Each epoch: (1) one student a domain learns to redraw the teacher's features of its
own images but the most suspect; (2) the global student learns from the teacher too, but of suspect images
what students of *other* domains redraw: they never met this image's anomaly, so what they draw is closer to
normal. Suspect is what other domains' students drew worst in the last epoch; in the first, they alone learn.
Without aggregation the global student learns from the teacher alone: plain reverse distillation.

Work is cut into turns of some hundred milliseconds. A turn's pieces run side by side, each on one thread, so
the outcome does not depend on the number of cores. All that decides what comes next is in `Training.arrays`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import ceil, cos, pi
from time import monotonic
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from siftline_workers.methods.aggregation import pseudo_normal, trusted_distance
from siftline_workers.methods.cdd_turns import Places, Turn, batches, side_by_side
from siftline_workers.methods.cdd_warm_up import Lesson, WarmUp
from siftline_workers.methods.detectors import Budget, CurvePoint, Keeper, TrainingSet
from siftline_workers.methods.distillation import (
    Stages,
    Student,
    anomaly_map,
    distance,
    new_student,
)
from siftline_workers.methods.learner import Learner, drawn
from siftline_workers.methods.llbnad import subsets_of
from siftline_workers.methods.near_duplicates import NearDuplicates
from siftline_workers.methods.parallel import for_each
from siftline_workers.methods.pieces import Share, alone
from siftline_workers.methods.seeding import Progress

_STEPS = 200  # of the global student, if no number of epochs is asked for
_MIN_EPOCHS = 4
_FIRST_PASSES = 6  # over its domain, before a student is asked which images are suspect
_SAVE_EVERY_S = 10.0
_NAME = "cdd"

Maps = list[Tensor]


@dataclass(frozen=True, slots=True)
class CddOptions:
    """As `siftline.schemas.CddOptions` documents them: what the abstract leaves open."""

    aggregation: bool = True
    domains: int = 3
    redraw: bool = False
    trim: float = 0.2
    targets: Literal["suspects", "all"] = "suspects"
    merge: Literal["mean", "least_similar"] = "mean"
    teacher_weight: float = 0.0
    epochs: int | None = None
    batch: int = 16
    learning_rate: float = 5e-3
    blocks: int = 1


class Training:
    """One training, from its start or from where an earlier one stood."""

    def __init__(
        self, data: TrainingSet, members: Places, stages: Stages, options: CddOptions, seed: int
    ) -> None:
        """On the images at `members` of `data` alone."""
        features = data.features
        self.features, self.stages, self.options, self.seed = features, stages, options, seed
        # In the order of their ids: where an image stands in the list changes nothing.
        self.members = np.array(sorted(members, key=lambda i: features.ids[i]), dtype=np.int64)
        self.groups = NearDuplicates(
            tuple(features.ids[i] for i in self.members), data.groups.group[self.members]
        )
        self.image = features.image_index
        self.rows: Places = np.concatenate(
            [np.arange(features.offsets[i], features.offsets[i + 1]) for i in self.members]
        )
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        domains = options.domains if options.aggregation else 0
        self.whole, *self.of_domain = (self._fresh() for _ in range(1 + domains))
        self.outside = np.zeros(features.n_patches, np.float32)
        """(tiles,): how far each was, last epoch, from what the students of other domains drew of it."""
        self.outside_now = self.outside.copy()
        """The same of this epoch, as far as it has come."""
        self.curve: list[CurvePoint] = []
        self.epoch = self.turn = self.step = 0

    def _fresh(self) -> Learner:
        """All begin as one and the same student."""
        random = torch.Generator().manual_seed(self.seed)
        return Learner(new_student(self.stages, self.options.blocks, random).to(self.device))

    def run(self, budget: Budget, keeper: Keeper, on_progress: Progress, share: Share = alone) -> Student:
        """The student after the last epoch, or when the budget is used up. `on_progress` may raise."""
        epochs = self._epochs(budget)
        if (kept := keeper.load(_NAME)) is not None:
            self.restore(kept)
        elif self.of_domain:
            first = Epoch(self)
            warm_up = WarmUp(self._fresh, self.teach, first.lessons(), keeper, budget.out_of_time)
            self.turn = first.first_whole
            part = self.turn / len(first.turns) / epochs
            warm_up.run(self.of_domain, share, lambda done: on_progress(done * part))
        saved = monotonic()
        while self.epoch < epochs and not self._is_spent(budget):
            epoch = Epoch(self)
            while self.turn < len(epoch.turns) and not self._is_spent(budget):
                if self.step == 0 and budget.out_of_time():
                    # No detector without a single step.
                    self.turn = max(self.turn, epoch.first_whole if epoch.teaches else len(epoch.turns) - 1)
                done = (self.epoch + self.turn / len(epoch.turns)) / epochs
                epoch.take(self.turn, done, on_progress)
                self.turn += 1
                if monotonic() - saved > _SAVE_EVERY_S:
                    keeper.save(_NAME, self.arrays())
                    saved = monotonic()
            if self.turn == len(epoch.turns):
                self.outside = self.outside_now.copy()
                self.epoch, self.turn = self.epoch + 1, 0
        keeper.save(_NAME, self.arrays())
        return self.whole.model.eval().requires_grad_(False).cpu()

    def _is_spent(self, budget: Budget) -> bool:
        return self.step == budget.max_steps or (self.step > 0 and budget.out_of_time())

    def _epochs(self, budget: Budget) -> int:
        steps = len(batches(self.rows, self.options.batch))
        epochs = self.options.epochs or max(_MIN_EPOCHS, ceil(_STEPS / steps))
        if budget.max_steps is not None:
            epochs = min(epochs, ceil(budget.max_steps / steps))
        return epochs + 1 if self.of_domain else epochs

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All state."""
        state = {
            "place": np.array([self.epoch, self.turn, self.step]),
            "outside": np.stack([self.outside, self.outside_now]),
            "curve": np.array([[point.step, point.loss] for point in self.curve]).reshape(-1, 2),
        }
        for prefix, learner in self._learners():
            state |= learner.arrays(prefix)
        return state

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """What `arrays` gave."""
        self.epoch, self.turn, self.step = (int(n) for n in arrays["place"])
        self.outside, self.outside_now = (np.array(row) for row in arrays["outside"])
        self.curve = [CurvePoint(int(step), float(loss)) for step, loss in arrays["curve"]]
        for prefix, learner in self._learners():
            learner.restore(arrays, prefix)

    def _learners(self) -> list[tuple[str, Learner]]:
        return [("whole", self.whole)] + [(f"domain-{k}", s) for k, s in enumerate(self.of_domain)]

    def teach(self, student: Learner, rows: Places, rate: float) -> None:
        """A step of a domain's student."""
        maps = self.maps(rows)
        student.step(lambda model: distance(maps, drawn(model, maps)), rate)

    def maps(self, rows: Places) -> Maps:
        return self.stages.maps(torch.from_numpy(self.features.patches[rows]).to(self.device))


class Epoch:
    """One epoch of a training, cut into turns."""

    def __init__(self, training: Training) -> None:
        self.training, self.options = training, training.options
        random = np.random.default_rng([training.seed, training.epoch])
        whole = batches(random.permutation(training.rows), self.options.batch)
        self.domain = np.zeros(0, np.int64)
        """(tiles,)"""
        self.redrawn = np.zeros(training.features.n_patches, bool)
        """(tiles,): of which the global student learns what other domains' students draw, not the teacher."""
        self.teaches = training.epoch > 0 or not training.of_domain
        """Whether the global student learns; else its turns are only looked at for suspects."""
        first: list[Turn] = []
        if training.of_domain:
            self.domain = self._drawn_domains()
            kept = self._kept()
            self.redrawn[:] = True
            if self.options.targets == "suspects":
                self.redrawn[np.concatenate(kept)] = False
            passes = 1 if self.teaches else _FIRST_PASSES
            first = side_by_side([self._passes(random, rows, passes) for rows in kept])
        self.first_whole = len(first)
        self.turns: list[Turn] = first + [[(-1, rows)] for rows in whole]
        self._targets: tuple[int, Maps] | None = None

    def lessons(self) -> list[list[Lesson]]:
        """Of the first epoch: what each domain's student learns, all of it before the suspects are named."""
        of_domain: list[list[Lesson]] = [[] for _ in self.training.of_domain]
        for turn in range(self.first_whole):
            for k, rows in self.turns[turn]:
                of_domain[k].append((rows, self._rate(turn / len(self.turns))))
        return of_domain

    def _rate(self, done: float) -> float:
        return self.options.learning_rate * (1 + cos(pi * done)) / 2

    def take(self, turn: int, share: float, on_progress: Progress) -> None:
        """One turn at `share` of the training, which `on_progress` is told several times a second."""
        rate = self._rate(share)
        if turn == 0 and self.options.redraw:
            # Students that are kept would have met every anomaly after some redraws.
            for student in self.training.of_domain:
                student.become(self.training.whole)
        work: list[Callable[[], None]]
        if turn < self.first_whole:
            t = self.training
            work = [partial(t.teach, t.of_domain[k], rows, rate) for k, rows in self.turns[turn]]
        elif not self.teaches:
            work = [partial(self._prepare, turn)]
        else:
            work = [partial(self._teach_whole, turn, self._ready_targets(turn), rate)]
            if self.training.of_domain and turn + 1 < len(self.turns):
                # The next step's targets do not depend on this step.
                work.append(partial(self._prepare, turn + 1))
        for_each(lambda i: work[i](), 0, len(work), lambda _share: on_progress(share))

    def _drawn_domains(self) -> Places:
        """(tiles,): near-equal domains, photographs of one thing together."""
        t = self.training
        repeat = t.epoch if self.options.redraw else 0
        of_image = np.full(t.features.n_images, -1)
        of_image[t.members] = subsets_of(t.groups, self.options.domains, repeat, t.seed + 1)
        return of_image[t.image]

    def _kept(self) -> list[Places]:
        """Each domain's tiles, without the images most unlike what other domains drew in the last epoch."""
        t = self.training
        score = np.full(t.features.n_images, -np.inf, np.float32)
        np.maximum.at(score, t.image, t.outside)
        kept = []
        for k in range(self.options.domains):
            rows = t.rows[self.domain[t.rows] == k]
            images = np.unique(t.image[rows])
            ranked = images[np.argsort(score[images], kind="stable")]
            trimmed = int(self.options.trim * len(ranked)) if t.epoch > 0 else 0
            kept.append(rows[np.isin(t.image[rows], ranked[: len(ranked) - trimmed])])
        return kept

    def _passes(self, random: np.random.Generator, rows: Places, passes: int) -> list[Places]:
        """Batches of so many passes over the rows, each in another order."""
        size = self.options.batch
        return [part for _ in range(passes) for part in batches(random.permutation(rows), size)]

    def _teach_whole(self, turn: int, targets: Maps, rate: float) -> None:
        t = self.training
        maps = t.maps(self.turns[turn][0][1])

        def loss(student: Student) -> Tensor:
            guesses = drawn(student, maps)
            found = distance(targets, guesses)
            if t.of_domain and self.options.teacher_weight > 0:
                found = found + self.options.teacher_weight * trusted_distance(maps, targets, guesses)
            return found

        value = t.whole.step(loss, rate)
        t.step += 1
        t.curve.append(CurvePoint(t.step, value))

    def _ready_targets(self, turn: int) -> Maps:
        if not self.training.of_domain:
            return self.training.maps(self.turns[turn][0][1])
        if self._targets is None or self._targets[0] != turn:
            self._prepare(turn)
        assert self._targets is not None  # noqa: S101  # _prepare has set it
        return self._targets[1]

    def _prepare(self, turn: int) -> None:
        """A batch's targets; and how far off the teacher is what students of other domains draw of it."""
        t = self.training
        rows = self.turns[turn][0][1]
        maps = t.maps(rows)
        domain = torch.from_numpy(self.domain[rows]).to(t.device)
        students = [learner.model.eval() for learner in t.of_domain]
        targets = pseudo_normal(students, maps, domain, self.options.merge)
        t.outside_now[rows] = anomaly_map(maps, targets).amax((1, 2)).cpu().numpy()
        redrawn = torch.from_numpy(self.redrawn[rows]).to(t.device)[:, None, None, None]
        self._targets = (turn, [torch.where(redrawn, a, b) for a, b in zip(targets, maps, strict=True)])
