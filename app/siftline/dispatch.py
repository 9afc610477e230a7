"""From a committed job to somebody's ear. Knows task names as strings; never imports the workers.

Each lane has a queue. A ring says that there is work in the lane: whoever hears it looks at the job table and
takes what is next there, until nothing is left. So a lost ring, and one too many, do no harm.
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

from celery import Celery
from sqlalchemy.orm import Session

from siftline import logs
from siftline.domain.jobs import Estimate, JobKind, Lane
from siftline.settings import Settings
from siftline.store import jobs
from siftline.store.models import Job
from siftline.store.session import after_commit, now

log = logging.getLogger(__name__)

TASK = "siftline.look"

Bell = Callable[[Lane, UUID], None]


def queue_of(lane: Lane) -> str:
    return f"siftline.{lane}"


def silent(lane: Lane, job_id: UUID) -> None:
    """The embedded mode's bell: workers look at the job table by themselves."""


def make_bell(settings: Settings) -> Bell:
    """The bell the settings ask for. It never raises and gives up on a dead broker within seconds."""
    if settings.redis_url is None:
        return silent
    # A request waits meanwhile, so a dead broker must fail fast: the sweeper rings again.
    broker = make_celery(settings.redis_url, socket_connect_timeout=1.0, socket_timeout=1.0)
    return partial(_ring, broker)


def make_celery(redis_url: str, **transport_options: Any) -> Celery:
    """What producer and workers must agree on."""
    app = Celery("siftline", broker=redis_url, set_as_current=False)
    app.conf.update(
        task_default_queue=queue_of(Lane.HEAVY),
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,  # the job table is the truth
        broker_transport_options=transport_options,
    )
    return app


def _ring(broker: Celery, lane: Lane, job_id: UUID) -> None:
    try:
        # One retry, because a pooled connection may have died with the broker's last restart.
        once_more = {"max_retries": 1, "interval_start": 0, "interval_step": 0}
        broker.send_task(TASK, args=[str(job_id)], queue=queue_of(lane), retry=True, retry_policy=once_more)
    except Exception as error:  # whatever the client library raises: the job is safe in its table
        log.warning(
            "job %s: the broker is away (%s), the sweeper will ring again", job_id, type(error).__name__
        )


def enqueue(
    session: Session,
    bell: Bell,
    dataset_id: UUID,
    kind: JobKind,
    params: dict[str, Any],
    *,
    detector_id: UUID | None = None,
    job_id: UUID | None = None,
    lane: Lane | None = None,
    estimate: Estimate | None = None,
) -> Job:
    """Create a job, and ring once it is committed. `job_id` is for what is named after it beforehand."""
    job = jobs.create(
        session,
        dataset_id,
        kind,
        params,
        detector_id=detector_id,
        job_id=job_id,
        lane=lane,
        estimate=estimate,
        request_id=logs.request_id(),
    )
    ring_after_commit(session, bell, job)
    return job


def ring_after_commit(session: Session, bell: Bell, job: Job) -> None:
    """Ring for a job that is being queued in this transaction."""
    job.rung_at = now(session)
    after_commit(session, partial(bell, Lane(job.lane), job.id))
