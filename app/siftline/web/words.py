"""Figures in words, as the page says them."""

from siftline import schemas
from siftline.services.words import contamination, count, duration, percent, plural

__all__ = ["KINDS", "UNFINISHED", "contamination", "count", "duration", "job", "percent", "plural"]


def job(found: schemas.Job) -> str:
    """What a job does right now."""
    doing = KINDS[found.kind]
    match found.state:
        case "queued":
            return f"{doing}: waiting for a worker"
        case "running":
            return f"{doing}: {found.stage}" if found.stage else doing
        case "cancelling":
            return f"{doing}: being cancelled"
        case "failed":
            return f"{doing} failed"
        case "cancelled":
            return f"{doing} was cancelled"
    return f"{doing} is done"


KINDS = {
    "purify": "Purification",
    "recut": "New cut",
    "similar": "Search for look-alikes",
    "train": "Training",
    "score": "Scoring",
}
UNFINISHED = ("queued", "running", "cancelling")
