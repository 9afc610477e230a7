"""What students of other domains make of an image, and how far the teacher is trusted."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from siftline_workers.methods.aggregation import pseudo_normal, trusted_distance


class Scaled(nn.Module):
    """A student that draws its input, leaning to one channel."""

    def __init__(self, lean: float) -> None:
        super().__init__()
        self.lean = lean

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        return [m + self.lean * torch.eye(m.shape[1])[0][:, None, None] for m in maps]


@pytest.mark.parametrize("merge", ["mean", "least_similar"])
def test_targets_come_from_other_domains_alone(merge: str) -> None:
    students = [Scaled(lean) for lean in (1.0, 2.0, 3.0)]
    maps = [torch.randn(4, 5, 3, 3, generator=torch.Generator().manual_seed(0))]
    domain = torch.tensor([0, 1, 2, 1])
    targets = pseudo_normal(students, maps, domain, merge)[0]
    for b in range(4):
        drawn = [
            F.normalize(student([m[b : b + 1] for m in maps])[0], dim=1)
            for k, student in enumerate(students)
            if k != domain[b]
        ]
        for y in range(3):
            for x in range(3):
                candidates = torch.stack([d[0, :, y, x] for d in drawn])
                if merge == "mean":
                    expected = F.normalize(candidates.mean(0), dim=0)
                else:
                    expected = candidates[int((candidates @ maps[0][b, :, y, x]).argmin())]
                assert torch.allclose(targets[b, :, y, x], expected, atol=1e-5)


def test_the_teacher_is_trusted_where_the_students_agree_with_it() -> None:
    teacher = torch.randn(1, 8, 2, 2, generator=torch.Generator().manual_seed(0))
    targets, guesses = teacher.clone(), teacher.clone()
    targets[:, :, 0] *= -1  # the students disagree in the upper row: an anomaly
    guesses[:, :, 0] *= -1
    assert float(trusted_distance([teacher], [targets], [guesses])) == pytest.approx(0, abs=1e-5)
    guesses[:, :, 1] *= -1
    assert float(trusted_distance([teacher], [targets], [guesses])) == pytest.approx(2, abs=1e-5)
