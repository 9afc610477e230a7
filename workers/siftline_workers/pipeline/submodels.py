"""LLBNAD's sub-models that are students, as pieces that several workers may train.

Memories are no such pieces: to ask all of them is a second of processor time for 1,000 images, less than a
helper needs to start.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from siftline.domain.jobs import Work
from siftline_workers.methods.llbnad import SubModel, subsets_of
from siftline_workers.methods.near_duplicates import NearDuplicates
from siftline_workers.methods.pieces import Arrays, Share
from siftline_workers.methods.students import StudentSubModel
from siftline_workers.pipeline.checkpoints import Checkpoints
from siftline_workers.pipeline.stages import Progress

_PLAN = "students"


@dataclass(frozen=True, slots=True)
class StudentPieces:
    """Every sub-model that LLBNAD will ask, by number."""

    students: StudentSubModel
    members: NDArray[np.bool_]
    """(sub-models, N): the images of each one's subset."""

    def piece(self, which: int, on_progress: Progress) -> Arrays:
        """`scores`: (patches,), the answer of one sub-model."""
        return {"scores": self.students(self.members[which], on_progress)}


def planned(
    students: StudentSubModel,
    groups: NearDuplicates,
    barred: NDArray[np.bool_] | None,
    *,
    partitions: int,
    subsets: int,
    seed: int,
    checkpoints: Checkpoints,
) -> StudentPieces:
    """The pieces, with what a helper cannot know written down for it: who is alike and who is barred."""

    def plan() -> Arrays:
        nobody = np.zeros(len(groups.ids), bool)
        drawn = [subsets_of(groups, subsets, repeat, seed) for repeat in range(partitions)]
        each = [subset == k for subset in drawn for k in range(subsets)]
        useful = [members for members in each if members.any() and not members.all()]
        return {
            "members": np.array(useful, bool).reshape(-1, len(groups.ids)),
            "barred": nobody if barred is None else barred,
        }

    return _pieces(students, checkpoints.once(_PLAN, plan))


def as_planned(students: StudentSubModel, checkpoints: Checkpoints) -> StudentPieces | None:
    """The same for a helper; None where the job keeps its checkpoints elsewhere."""
    plan = checkpoints.load(_PLAN)
    return None if plan is None else _pieces(students, plan)


def _pieces(students: StudentSubModel, plan: Arrays) -> StudentPieces:
    return StudentPieces(replace(students, barred=plan["barred"]), plan["members"])


def trained(pieces: StudentPieces, checkpoints: Checkpoints, share: Share, progress: Progress) -> SubModel:
    """All of them trained and asked: what `llbnad.subset_scores` takes."""
    every = range(len(pieces.members))
    found = share(checkpoints, Work.STUDENT, every, pieces.piece, progress)
    answers = {
        members.tobytes(): arrays["scores"] for members, arrays in zip(pieces.members, found, strict=True)
    }
    return lambda members, _progress: answers[members.tobytes()]
