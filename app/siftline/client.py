"""The API from Python, typed.

    from siftline import Client

    with Client("http://127.0.0.1:8000") as client:
        created = client.upload("line 4", ["dump.zip"])
        client.wait(created.job)
        for item in client.purified(created.dataset.id).items[:10]:
            print(item.rank, item.name, item.p_anomalous)

Errors are those of `siftline.domain.errors`, plus `JobFailed`. A server out of reach is `Unavailable`.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar
from uuid import UUID, uuid4

import httpx2
from pydantic import BaseModel

from siftline.connection import Body, Connection, parsed
from siftline.domain.errors import SiftlineError
from siftline.multipart import MultipartBody, find_files
from siftline.schemas import (
    Dataset,
    DatasetCreated,
    DatasetFromSource,
    DatasetOptions,
    Health,
    Image,
    Job,
    Page,
    Purified,
    PurifyOptions,
    Receipt,
    Source,
    Verdict,
)

M = TypeVar("M", bound=BaseModel)
Query = Mapping[str, Any]
OnProgress = Callable[[int, int], None]

DEFAULT_URL = "http://127.0.0.1:8000"
ATTEMPTS = 6
PAGE = 500
# After the last byte the server still unpacks and decodes what it has got.
UPLOAD_ANSWER_TIMEOUT_S = 3600.0
FINISHED = {"succeeded", "failed", "cancelled"}


class JobFailed(SiftlineError):
    """A job that was waited for ended otherwise than well; `job` is its last state."""

    code = "job-failed"
    title = "The job did not succeed"

    def __init__(self, job: Job) -> None:
        reason = job.error.detail if job.error else f"it was {job.state}"
        super().__init__(f"Job {job.id} did not succeed: {reason}")
        self.job = job


class Client:
    """One server. `url` and `api_key` default to SIFTLINE_URL and SIFTLINE_API_KEY.

    Calls that may safely be made twice are retried with back-off on 429, 503 and dropped connections;
    creating calls carry an Idempotency-Key, so they are among them.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout_s: float = 60.0,
        attempts: int = ATTEMPTS,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self.url = (url or os.environ.get("SIFTLINE_URL") or DEFAULT_URL).rstrip("/")
        self._connection = Connection(
            self.url,
            api_key or os.environ.get("SIFTLINE_API_KEY"),
            timeout_s=timeout_s,
            attempts=attempts,
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    # datasets

    def upload(
        self,
        name: str,
        paths: Sequence[Path | str],
        options: DatasetOptions | None = None,
        on_progress: OnProgress | None = None,
    ) -> DatasetCreated:
        """Make a dataset of images, archives and folders; purification starts by itself.

        `on_progress(sent, total)` counts bytes. Files are read while they are sent, never held in memory.
        """
        fields = {"name": name}
        if options is not None:
            fields["options"] = options.model_dump_json(exclude_unset=True)
        body = MultipartBody(fields, find_files([Path(p) for p in paths]), on_progress)
        return self._create("/datasets", body, DatasetCreated, timeout_s=UPLOAD_ANSWER_TIMEOUT_S)

    def upload_from(self, name: str, uri: str, options: DatasetOptions | None = None) -> DatasetCreated:
        """Make a dataset of what the server itself finds at `uri` (`file://…` below its source roots)."""
        body = DatasetFromSource(name=name, source=Source(uri=uri), options=options or DatasetOptions())
        return self._create("/datasets", body, DatasetCreated, timeout_s=UPLOAD_ANSWER_TIMEOUT_S)

    def add(
        self, dataset_id: UUID, paths: Sequence[Path | str], on_progress: OnProgress | None = None
    ) -> DatasetCreated:
        """Send one more batch to a dataset; it is purified again."""
        body = MultipartBody({}, find_files([Path(p) for p in paths]), on_progress)
        path = f"/datasets/{dataset_id}/images"
        return self._create(path, body, DatasetCreated, timeout_s=UPLOAD_ANSWER_TIMEOUT_S)

    def datasets(self) -> Iterator[Dataset]:
        return self._pages("/datasets", Page[Dataset], {})

    def dataset(self, dataset_id: UUID) -> Dataset:
        return self._get(f"/datasets/{dataset_id}", Dataset)

    def receipts(self, dataset_id: UUID) -> Iterator[Receipt]:
        """What became of each file that was ever sent to the dataset, oldest first."""
        return self._pages(f"/datasets/{dataset_id}/receipts", Page[Receipt], {})

    def delete_dataset(self, dataset_id: UUID) -> None:
        self._connection.send("DELETE", f"/datasets/{dataset_id}", twice=False)

    # images

    def images(
        self,
        dataset_id: UUID,
        *,
        verdict: Verdict | None = None,
        min_score: float | None = None,
        name_contains: str | None = None,
    ) -> Iterator[Image]:
        """In upload order, with what the newest version says of each."""
        query = {"verdict": verdict, "min_score": min_score, "q": name_contains}
        return self._pages(f"/datasets/{dataset_id}/images", Page[Image], query)

    def image(self, image_id: UUID) -> Image:
        return self._get(f"/images/{image_id}", Image)

    def image_file(self, image_id: UUID, kind: Literal["content", "thumbnail", "heatmap"]) -> bytes:
        """The image as it was sent, its thumbnail, or its heat map."""
        return self._connection.send("GET", f"/images/{image_id}/{kind}").content

    # purification

    def purify(self, dataset_id: UUID, options: PurifyOptions | None = None) -> Job:
        """Purify again with other options: one more version."""
        return self._create(f"/datasets/{dataset_id}/purifications", options or PurifyOptions(), Job)

    def purified(
        self,
        dataset_id: UUID,
        *,
        version: int | None = None,
        verdict: Verdict | None = None,
        wait_s: float = 0.0,
        limit: int | None = None,
    ) -> Purified:
        """The ranked split with all its items, or the `limit` most suspect.

        Raises PurificationNotReady when there is none after `wait_s` (the server caps the wait).
        """
        pages = self.purified_pages(
            dataset_id, version=version, verdict=verdict, wait_s=wait_s, page=min(PAGE, limit or PAGE)
        )
        whole = next(pages)
        items = list(whole.items)
        while limit is None or len(items) < limit:
            page = next(pages, None)
            if page is None:
                break
            items += page.items
        return whole.model_copy(update={"items": items[:limit], "next_cursor": None})

    def purified_pages(
        self,
        dataset_id: UUID,
        *,
        version: int | None = None,
        verdict: Verdict | None = None,
        wait_s: float = 0.0,
        page: int = PAGE,
    ) -> Iterator[Purified]:
        """The same, page by page, all of one version even if a newer one appears meanwhile."""
        query: dict[str, Any] = {
            "version": version,
            "verdict": verdict,
            "wait": wait_s or None,
            "limit": page,
        }
        while True:
            answer = self._get(
                f"/datasets/{dataset_id}/purified", Purified, query, self._connection.timeout_s + wait_s
            )
            cursor, query["version"] = answer.next_cursor, answer.version
            yield answer
            if cursor is None:
                return
            query["cursor"] = cursor

    # jobs

    def jobs(self, dataset_id: UUID | None = None) -> Iterator[Job]:
        """Newest first."""
        return self._pages("/jobs", Page[Job], {"dataset_id": dataset_id})

    def job(self, job_id: UUID) -> Job:
        return self._get(f"/jobs/{job_id}", Job)

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

    # the server

    def ready(self) -> Health:
        """What the server depends on. Raises Unavailable while any of it is away."""
        return self._get("/readyz", Health)

    def _get(
        self,
        path: str,
        model: type[M],
        query: Query | None = None,
        timeout_s: float | None = None,
    ) -> M:
        return parsed(model, self._connection.send("GET", path, query=query, timeout_s=timeout_s))

    def _create(self, path: str, body: Body, model: type[M], timeout_s: float | None = None) -> M:
        headers = {"Idempotency-Key": str(uuid4())}
        answer = self._connection.send("POST", path, body=body, headers=headers, timeout_s=timeout_s)
        return parsed(model, answer)

    def _pages(self, path: str, model: type[Page[M]], query: Query) -> Iterator[M]:
        cursor: str | None = None
        while True:
            page = self._get(path, model, {**query, "limit": PAGE, "cursor": cursor})
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return
