"""The tables. Migrations make them; these classes only describe them to SQLAlchemy."""

from siftline.store.models.access import ApiKey, AuditEntry
from siftline.store.models.base import Base, Utc
from siftline.store.models.datasets import Dataset, Image, Receipt, ReviewBatch, ReviewDecision
from siftline.store.models.detectors import Artifact, ArtifactChunk, Detector, JobScore
from siftline.store.models.jobs import IdempotencyKey, Job, JobMove, JobPart, Worker
from siftline.store.models.purifications import Purification, PurifiedItem

__all__ = [
    "ApiKey",
    "Artifact",
    "ArtifactChunk",
    "AuditEntry",
    "Base",
    "Dataset",
    "Detector",
    "IdempotencyKey",
    "Image",
    "Job",
    "JobMove",
    "JobPart",
    "JobScore",
    "Purification",
    "PurifiedItem",
    "Receipt",
    "ReviewBatch",
    "ReviewDecision",
    "Utc",
    "Worker",
]
