"""From a committed job to somebody's ear. Knows task names as strings; never imports the workers."""

from collections.abc import Callable
from uuid import UUID

from celery import Celery

from siftline.domain.jobs import JobKind
from siftline.settings import Settings

TASKS: dict[JobKind, str] = {JobKind.PURIFY: "siftline.purify"}

Bell = Callable[[JobKind, UUID], None]


def silent(kind: JobKind, job_id: UUID) -> None:
    """The embedded mode's bell: workers look at the job table by themselves."""
