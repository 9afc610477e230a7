"""Datasets and their images."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal
from uuid import UUID

from siftline.client.multipart import FilePart, MultipartBody, OnProgress, batched, find_files
from siftline.client.purifications import PurificationCalls
from siftline.client.uploads import BATCH_BYTES, BATCH_FILES, Memo, apart, bodies_of, stamps
from siftline.domain.errors import NotFound
from siftline.schemas import (
    Dataset,
    DatasetCreated,
    DatasetFromSource,
    DatasetOptions,
    Image,
    Page,
    Receipt,
    Source,
    Verdict,
)

# After the last byte the server still unpacks and decodes what it has got.
UPLOAD_ANSWER_TIMEOUT_S = 3600.0


class DatasetCalls(PurificationCalls):
    def upload(
        self,
        name: str,
        paths: Sequence[Path | str],
        options: DatasetOptions | None = None,
        on_progress: OnProgress | None = None,
        *,
        memo: Path | None = None,
        batch_files: int = BATCH_FILES,
    ) -> DatasetCreated:
        """Make a dataset of images, archives and folders; purification starts by itself.

        Files go in batches, read while they are sent and never held in memory. With `memo`, a small file that
        exists until all is done, the same call made again after a crash sends only what is missing.
        `on_progress(sent, total)` counts bytes.
        """
        files, options, known = _files(paths), options or DatasetOptions(), Memo(memo)
        dataset = self._begun(known.dataset_id)
        if dataset is not None:
            created = self._go_on(
                dataset, files, on_progress, batch_files=batch_files, purify=options.purify, resumed=known
            )
            known.forget()
            return created
        known.keep(None)
        fields = {"name": name, "options": options.model_dump_json(exclude_unset=True)}
        bodies = bodies_of(fields, batched(files, batch_files, BATCH_BYTES), on_progress)
        key = known.key_for([fields, *stamps(files)])
        first = self._send("/datasets", bodies[0], hold=len(bodies) > 1, key=key)
        known.keep(first.dataset.id)
        rest = [self._send_more(first.dataset.id, body, hold=True) for body in bodies[1:]]
        created = self._all([first, *rest], [], options.purify and len(bodies) > 1, known)
        known.forget()
        return created

    def upload_from(self, name: str, uri: str, options: DatasetOptions | None = None) -> DatasetCreated:
        """Make a dataset of what the server itself finds at `uri`: `s3://…` or `file://…`, where its settings
        allow it."""
        body = DatasetFromSource(name=name, source=Source(uri=uri), options=options or DatasetOptions())
        return self._connection.create("/datasets", body, DatasetCreated, timeout_s=UPLOAD_ANSWER_TIMEOUT_S)

    def add(
        self,
        dataset_id: UUID,
        paths: Sequence[Path | str],
        on_progress: OnProgress | None = None,
        *,
        purify: bool = True,
        batch_files: int = BATCH_FILES,
    ) -> DatasetCreated:
        """Send what the dataset does not have yet; it is purified again, if its options allow it."""
        dataset = self.dataset(dataset_id)
        wanted = purify and dataset.options.purify
        return self._go_on(dataset, _files(paths), on_progress, batch_files=batch_files, purify=wanted)

    def _begun(self, dataset_id: UUID | None) -> Dataset | None:
        """The dataset that an upload had made before it was killed, unless somebody has deleted it."""
        try:
            return None if dataset_id is None else self.dataset(dataset_id)
        except NotFound:
            return None

    def _go_on(
        self,
        dataset: Dataset,
        files: list[FilePart],
        on_progress: OnProgress | None,
        *,
        batch_files: int,
        purify: bool,
        resumed: Memo | None = None,
    ) -> DatasetCreated:
        taken = (r.sha256 for r in self.receipts(dataset.id) if r.status != "rejected")
        left, there = apart(files, frozenset(sha256 for sha256 in taken if sha256))
        bodies = bodies_of({}, batched(left, batch_files, BATCH_BYTES), on_progress)
        # One batch starts its purification itself, safely in one transaction; of many, none shall.
        hold = len(bodies) > 1 or resumed is not None or not purify
        answers = [self._send_more(dataset.id, body, hold=hold) for body in bodies]
        new = resumed is not None or any(r.status == "accepted" for a in answers for r in a.receipts)
        if not answers:
            answers = [DatasetCreated(dataset=dataset, receipts=[], job=None)]
        return self._all(answers, there, purify and hold and new, resumed)

    def _send(self, path: str, body: MultipartBody, *, hold: bool, key: str | None = None) -> DatasetCreated:
        query = {"purify": "false"} if hold else None
        return self._connection.create(
            path, body, DatasetCreated, query=query, key=key, timeout_s=UPLOAD_ANSWER_TIMEOUT_S
        )

    def _send_more(self, dataset_id: UUID, body: MultipartBody, *, hold: bool) -> DatasetCreated:
        return self._send(f"/datasets/{dataset_id}/images", body, hold=hold)

    def _all(
        self, answers: Sequence[DatasetCreated], there: list[Receipt], purify: bool, memo: Memo | None
    ) -> DatasetCreated:
        """The answers of all batches as one; with `purify`, the job that none of them has started."""
        dataset, job = answers[-1].dataset, answers[-1].job
        if purify and dataset.images:
            job = self.purify(dataset.id, key=None if memo is None else memo.key_for(["purify"]))
            dataset = dataset.model_copy(update={"job": job})
        receipts = [receipt for answer in answers for receipt in answer.receipts]
        return DatasetCreated(dataset=dataset, receipts=there + receipts, job=job)

    def datasets(self) -> Iterator[Dataset]:
        return self._connection.pages("/datasets", Page[Dataset])

    def dataset(self, dataset_id: UUID) -> Dataset:
        return self._connection.get(f"/datasets/{dataset_id}", Dataset)

    def receipts(self, dataset_id: UUID) -> Iterator[Receipt]:
        """What became of each file that was ever sent to the dataset, oldest first."""
        return self._connection.pages(f"/datasets/{dataset_id}/receipts", Page[Receipt])

    def delete_dataset(self, dataset_id: UUID) -> None:
        self._connection.send("DELETE", f"/datasets/{dataset_id}", twice=False)

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
        return self._connection.pages(f"/datasets/{dataset_id}/images", Page[Image], query)

    def image(self, image_id: UUID) -> Image:
        return self._connection.get(f"/images/{image_id}", Image)

    def image_file(self, image_id: UUID, kind: Literal["content", "thumbnail", "heatmap"]) -> bytes:
        """The image as it was sent, its thumbnail, or its heat map."""
        return self._connection.send("GET", f"/images/{image_id}/{kind}").content


def _files(paths: Sequence[Path | str]) -> list[FilePart]:
    """Raises FileNotFoundError, also when there is no file in the folders named."""
    files = find_files([Path(path) for path in paths])
    if not files:
        raise FileNotFoundError(f"There is no file in {', '.join(map(str, paths)) or 'nothing'}")
    return files
