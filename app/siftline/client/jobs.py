"""Jobs: looked at, waited for, cancelled."""

import time
from collections.abc import Callable, Iterator
from uuid import UUID

from siftline.client.calls import Calls
from siftline.client.connection import parsed
from siftline.domain.errors import SiftlineError
from siftline.schemas import Job, Page, SimilarImage

FINISHED = {"succeeded", "failed", "cancelled"}


class JobFailed(SiftlineError):
    """A job that was waited for ended otherwise than well; `job` is its last state."""

    code = "job-failed"
    title = "The job did not succeed"

    def __init__(self, job: Job) -> None:
        reason = job.error.detail if job.error else f"it was {job.state}"
        super().__init__(f"Job {job.id} did not succeed: {reason}")
        self.job = job


class JobCalls(Calls):
    def jobs(self, dataset_id: UUID | None = None) -> Iterator[Job]:
        """Newest first."""
        return self._connection.pages("/jobs", Page[Job], {"dataset_id": dataset_id})

    def job(self, job_id: UUID) -> Job:
        return self._connection.get(f"/jobs/{job_id}", Job)

    def cancel(self, job_id: UUID) -> Job:
        """Ask a job to stop. Raises JobStateConflict when it has already finished."""
        return parsed(Job, self._connection.send("POST", f"/jobs/{job_id}/cancel", twice=False))

    def wait(
        self,
        job: Job | UUID | None,
        *,
        timeout_s: float | None = None,
        poll_s: float = 0.5,
        on_progress: Callable[[Job], None] | None = None,
    ) -> Job:
        """Look at a job until it has succeeded. Raises JobFailed, or TimeoutError after `timeout_s`."""
        if job is None:
            raise ValueError("there is no job to wait for: the dataset was made with purify=false")
        job_id = job.id if isinstance(job, Job) else job
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            now = self.job(job_id)
            if on_progress:
                on_progress(now)
            if now.state in FINISHED:
                break
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"job {job_id} was still {now.state} after {timeout_s:g} s")
            time.sleep(poll_s)
        if now.state != "succeeded":
            raise JobFailed(now)
        return now


def similar_of(job: Job) -> list[SimilarImage]:
    """What a finished job of `report_miss` has found, most alike first."""
    return [SimilarImage.model_validate(found) for found in (job.result or {}).get("similar", [])]
