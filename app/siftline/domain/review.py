"""Who wins when a person and the machine disagree: the person."""

from typing import Literal

Verdict = Literal["clean", "suspect"]


def effective_verdict(machine: Verdict, review: str | None) -> Verdict:
    """The verdict that counts. `review` is what a person said last: keep, reject, or nothing (None)."""
    if review == "keep":
        return "clean"
    if review == "reject":
        return "suspect"
    return machine


def is_anomalous(review: str) -> bool:
    """What a decision says of an image: rejected ones are anomalous, kept ones are not."""
    return review == "reject"
