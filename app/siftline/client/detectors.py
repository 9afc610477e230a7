"""Detectors: trained, looked at, kept, asked."""

import hashlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal
from uuid import UUID, uuid4

from pydantic import RootModel

from siftline.client.connection import parsed
from siftline.client.jobs import JobCalls
from siftline.client.multipart import FilePart, MultipartBody, OnProgress, batched, find_files
from siftline.domain.errors import NotFound, Unavailable
from siftline.schemas import (
    Artifact,
    Detector,
    DetectorCreated,
    DetectorRef,
    NewCdd,
    NewFunad,
    Page,
    RejectedImage,
    ScoreAnswer,
    ScoredImage,
    ScoreJobCreated,
)

Explain = Literal["none", "map"]
ScoreRow = ScoredImage | RejectedImage

# Well below what a server scores while a request waits, so that no training delays an answer.
SCORE_FILES = 32
SCORE_BYTES = 256 * 1024**2


class DetectorCalls(JobCalls):
    def train(self, new: NewFunad | NewCdd) -> DetectorCreated:
        """Train on the images of a version that count as clean, human decisions included."""
        return self._connection.create("/detectors", new, DetectorCreated)

    def detectors(self, dataset_id: UUID | None = None) -> Iterator[Detector]:
        """Newest first."""
        return self._connection.pages("/detectors", Page[Detector], {"dataset_id": dataset_id})

    def detector(self, detector_id: UUID) -> Detector:
        return self._connection.get(f"/detectors/{detector_id}", Detector)

    def delete_detector(self, detector_id: UUID) -> None:
        """With its artifacts. Whatever asks it for scores gets NotFound from then on."""
        self._connection.send("DELETE", f"/detectors/{detector_id}", twice=False)

    def artifacts(self, detector_id: UUID) -> Sequence[Artifact]:
        """The files a detector is made of, with their hashes; none before it is ready."""
        return self._connection.get(f"/detectors/{detector_id}/artifacts", RootModel[list[Artifact]]).root

    def download_artifact(
        self, detector_id: UUID, name: str, path: Path | str, on_progress: OnProgress | None = None
    ) -> Path:
        """Keep an artifact as `path`, once its SHA-256 is what it should be.

        Raises NotFound naming the artifacts there are, and Unavailable when it arrived damaged.
        """
        there = {artifact.name: artifact for artifact in self.artifacts(detector_id)}
        if name not in there:
            known = ", ".join(sorted(there)) or "none, because its training has not succeeded"
            raise NotFound(f"The detector has no artifact {name!r}. There are: {known}")
        url = f"/detectors/{detector_id}/artifacts/{name}"
        self._connection.download(url, Path(path), sha256=there[name].sha256, on_progress=on_progress)
        return Path(path)

    def score(
        self,
        detector_id: UUID,
        images: Sequence[Path | str | bytes | FilePart],
        *,
        explain: Explain = "none",
        timeout_s: float | None = None,
        on_progress: OnProgress | None = None,
        batch_files: int = SCORE_FILES,
    ) -> ScoreAnswer:
        """Score files, folders and encoded images, a few per request; answers are in the order given.

        Every file is answered for, as scored or as rejected. `on_progress(done, total)` counts files. Raises
        TimeoutError after `timeout_s`, and FileNotFoundError when there is nothing to score.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        parts = [part for image in images for part in _parts(image)]
        if not parts:
            raise FileNotFoundError("There is no image to score.")
        answers: list[ScoreAnswer] = []
        done = 0
        for batch in batched(parts, batch_files, SCORE_BYTES):
            answers.append(self._score_once(detector_id, batch, explain, deadline))
            done += len(batch)
            if on_progress:
                on_progress(done, len(parts))
        return answers[0].model_copy(
            update={
                "items": [item for answer in answers for item in answer.items],
                "rejected": [file for answer in answers for file in answer.rejected],
            }
        )

    def job_scores(self, job_id: UUID) -> Iterator[ScoreRow]:
        """What a finished scoring job found, in the order the files were sent."""
        return self._connection.pages(f"/jobs/{job_id}/scores", Page[ScoreRow])

    def _score_once(
        self, detector_id: UUID, batch: list[FilePart], explain: Explain, deadline: float | None
    ) -> ScoreAnswer:
        answer = self._connection.send(
            "POST",
            f"/detectors/{detector_id}/score",
            query={"explain": explain},
            body=MultipartBody({}, batch),
            headers={"Idempotency-Key": str(uuid4())},  # if it becomes a job: one
            deadline=deadline,
        )
        if answer.status_code == 202:  # this server scores fewer at once
            scored = self._job_answer(detector_id, parsed(ScoreJobCreated, answer), deadline)
        else:
            scored = parsed(ScoreAnswer, answer)
        answered = len(scored.items) + len(scored.rejected)
        if answered < len(batch):  # an archive is answered for by each of its files
            raise Unavailable(f"{self._connection.url} answered for {answered} of {len(batch)} images")
        return scored

    def _job_answer(self, detector_id: UUID, created: ScoreJobCreated, deadline: float | None) -> ScoreAnswer:
        left_s = None if deadline is None else max(deadline - time.monotonic(), 0.0)
        self.wait(created.job, timeout_s=left_s)
        detector, rows = self.detector(detector_id), list(self.job_scores(created.job.id))
        if detector.calibration is None:
            raise Unavailable("The detector has lost its calibration")
        return ScoreAnswer(
            detector=DetectorRef.model_validate(detector, from_attributes=True),
            calibration=detector.calibration,
            items=[row for row in rows if isinstance(row, ScoredImage)],
            rejected=[row for row in rows if isinstance(row, RejectedImage)],
        )


def _parts(image: Path | str | bytes | FilePart) -> list[FilePart]:
    if isinstance(image, FilePart):
        return [image]
    if isinstance(image, bytes):
        return [FilePart(hashlib.sha256(image).hexdigest()[:12], image, len(image))]
    return find_files([Path(image)])
