"""Whether images pass: the one rule that exit code, JUnit and SARIF follow.

A file that cannot be read as an image was not judged, so it never passes: exit code 2. An image that fails
the gate outranks that: exit code 1.
"""

from typing import Literal

from siftline.schemas import RejectedImage, ScoreAnswer, ScoredImage

FailOn = Literal["review", "defect"]
Outcome = ScoredImage | RejectedImage

PASSED, FAILED, UNREADABLE = 0, 1, 2


class GateReport(ScoreAnswer):
    """What the detector says, and what follows from it."""

    fail_on: FailOn | None
    passed: bool

    @property
    def outcomes(self) -> list[Outcome]:
        """Scored and unreadable files together, by name: the same images always make the same report."""
        return sorted([*self.items, *self.rejected], key=lambda outcome: outcome.name)

    @property
    def failures(self) -> list[ScoredImage]:
        return [item for item in self.items if fails(item, self.fail_on)]

    @property
    def exit_code(self) -> int:
        if self.failures:
            return FAILED
        return UNREADABLE if self.rejected else PASSED


def judge(answer: ScoreAnswer, fail_on: FailOn | None) -> GateReport:
    """Without `fail_on` no verdict fails, and only what cannot be read does."""
    passed = not answer.rejected and not any(fails(item, fail_on) for item in answer.items)
    return GateReport(**dict(answer), fail_on=fail_on, passed=passed)


def fails(item: ScoredImage, fail_on: FailOn | None) -> bool:
    return item.verdict in {None: (), "defect": ("defect",), "review": ("review", "defect")}[fail_on]


def sentence(item: ScoredImage, report: GateReport) -> str:
    """Score, threshold and p-value in words."""
    bound = report.calibration.review_threshold if item.verdict == "review" else item.threshold
    relation = "is within" if item.verdict == "ok" else "exceeds"
    name = "review threshold" if item.verdict == "review" else "threshold"
    return (
        f"{item.verdict}: score {item.score:.6g} {relation} the {name} {bound:.6g} (p = {item.p_value:.3g})"
    )
