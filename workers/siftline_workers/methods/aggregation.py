"""CDD's cross-domain part: what students of other domains draw of an image, merged into one target.

After Liu, Wang, Leng and Zhang (arXiv 2508.18007); own code. How drawings merge is not known to us:
`siftline.schemas.CddOptions` names the choices.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from siftline_workers.methods.learner import drawn


@torch.no_grad()
def pseudo_normal(
    students: Sequence[nn.Module], maps: list[Tensor], domain: Tensor, merge: str
) -> list[Tensor]:
    """Each stage's (B, C, h, w) as students of other domains than the tile's own (`domain`, (B,)) draw it.

    Of length 1 at each place. `students` in eval mode, one a domain; `merge` mean or least_similar (to the
    teacher, place by place).
    """
    merged = [_Merged(m, merge) for m in maps]
    for k, student in enumerate(students):
        foreign = (domain != k).nonzero()[:, 0]
        if len(foreign):
            guesses = drawn(student, [m[foreign] for m in maps])
            for of_stage, guess in zip(merged, guesses, strict=True):
                of_stage.add(foreign, guess)
    return [of_stage.result() for of_stage in merged]


def trusted_distance(wanted: list[Tensor], targets: list[Tensor], guesses: list[Tensor]) -> Tensor:
    """1 - cosine to the teacher, where the targets agree with it better than at the batch's median place."""
    parts = []
    for a, target, guess in zip(wanted, targets, guesses, strict=True):
        doubt = 1 - F.cosine_similarity(a, target, dim=1)
        trusted = (doubt <= doubt.median()).float()
        apart = 1 - F.cosine_similarity(a, guess, dim=1)
        parts.append((apart * trusted).sum() / trusted.sum())
    return torch.stack(parts).sum()


class _Merged:
    """Several students' drawings of one stage as one, of length 1 at each place."""

    def __init__(self, wanted: Tensor, merge: str) -> None:
        self.wanted, self.merge = wanted, merge
        self.drawn = torch.zeros_like(wanted)
        self.likeness = torch.full_like(wanted[:, :1], torch.inf)

    def add(self, places: Tensor, guess: Tensor) -> None:
        guess = F.normalize(guess, dim=1)
        if self.merge == "mean":
            self.drawn[places] += guess
            return
        likeness = F.cosine_similarity(self.wanted[places], guess, dim=1)[:, None]
        less = likeness < self.likeness[places]
        self.drawn[places] = torch.where(less, guess, self.drawn[places])
        self.likeness[places] = torch.where(less, likeness, self.likeness[places])

    def result(self) -> Tensor:
        return F.normalize(self.drawn, dim=1)
