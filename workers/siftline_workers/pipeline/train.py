"""The job `train`: the clean images of a version in, a calibrated detector with its artifacts out."""

from __future__ import annotations

import resource
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from siftline.domain.calibration import Calibration, calibrate, taken_for_good
from siftline.domain.errors import Unprocessable
from siftline.schemas import CalibrationCard, Lineage
from siftline.store import artifacts, detectors, work
from siftline.store.blobs_open import open_blobs
from siftline.store.session import now, reading
from siftline.store.work import Use
from siftline_workers.methods.backbones import Backbone
from siftline_workers.methods.detectors import Budget, CurvePoint, TooFewImages, Trained, TrainingSet
from siftline_workers.methods.features import PatchFeatures
from siftline_workers.methods.neighbours import search_precision
from siftline_workers.methods.onnx_export import Parity
from siftline_workers.methods.pieces import Share
from siftline_workers.pipeline import clean_set, detector_files, export, parts, training_order
from siftline_workers.pipeline.checkpoints import Checkpoints, content_key
from siftline_workers.pipeline.clean_set import CleanSet
from siftline_workers.pipeline.extract import ExtractionFailed, extract
from siftline_workers.pipeline.feature_cache import FeatureCache
from siftline_workers.pipeline.stages import Progress, Stages
from siftline_workers.pipeline.training_order import Order
from siftline_workers.running import RunningJob

VERSION = 5
"""Part of every checkpoint's key: raise it when a method's training changes."""

SHARES = {"load": 0.07, "extract": 0.04, "train": 0.72, "calibrate": 0.03, "export": 0.13, "write": 0.01}
"""Of the time of FUN-AD on 471 images with `lite` and 75 suspects, as measured on two busy cores."""

CURVE_POINTS = 200


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished training: what goes into the detector's row, and the folder of its artifacts."""

    lineage: Lineage
    card: CalibrationCard
    curve: Sequence[CurvePoint]
    folder: Path


def run(job: RunningJob) -> None:
    """Train the detector of `job`. Killed and started again, it ends with the same detector.

    Raises Unprocessable for what the user can mend (too few images, no weights, an unreadable image), and
    lets Cancelled and LostJob pass.
    """
    stages = Stages(SHARES, job.report)
    with stages.stage("load"):
        order, extractor = training_order.read(job)
        blobs = open_blobs(job.settings)
        clean = clean_set.load(job.sessions, blobs, order.dataset_id, order.version)
    with stages.stage("extract") as progress:
        features = _features(job, clean, extractor, progress)
    del extractor  # training needs the memory of the compiled network
    lineage = training_order.lineage(order, clean)
    checkpoints = _checkpoints(job, order, clean, lineage)
    share = parts.sharing(job, checkpoints, len(clean.images))
    with stages.stage("train") as progress:
        trained = _trained(order, TrainingSet(features, clean.groups), checkpoints, progress, share)
    with stages.stage("calibrate") as progress:
        aside = export.scores_aside(trained, clean, order.preset.side, progress)
        calibration = _calibrated(order, clean, trained, aside)
        card = _card(job, order, clean, trained, calibration)
    with _folder(job) as folder:
        outcome = Outcome(lineage, card, _thinned(trained.curve, CURVE_POINTS), folder)
        with stages.stage("export") as progress:
            parity = export.write(
                folder,
                trained,
                clean,
                side=order.preset.side,
                calibration=calibration,
                card=card,
                on_progress=progress,
            )
            detector_files.draw_curve(folder / "curve.png", outcome.curve, calibration)
        with stages.stage("write"):
            _report(outcome, parity, stages)
            job.succeed(lambda session: _write(session, job, outcome))
    checkpoints.clear()


def again(job: RunningJob, under: Callable[[Checkpoints], None], share: Share, progress: Progress) -> None:
    """The training up to what goes through `share`, for a helper: to be left by what `share` raises.

    `under` is told where the job's checkpoints are.
    """
    order, extractor = training_order.read(job)
    clean = clean_set.load(job.sessions, open_blobs(job.settings), order.dataset_id, order.version)
    features = _features(job, clean, extractor, progress)
    del extractor
    checkpoints = _checkpoints(job, order, clean, training_order.lineage(order, clean))
    under(checkpoints)
    _trained(order, TrainingSet(features, clean.groups), checkpoints, progress, share)


def _features(job: RunningJob, clean: CleanSet, extractor: Backbone, progress: Progress) -> PatchFeatures:
    if not clean.images:
        raise Unprocessable("No image of the version is clean any more.")
    try:
        cache = FeatureCache(job.settings.features_dir)
        return extract(clean.images, extractor, cache, progress, clean.tone)
    except ExtractionFailed as error:
        image_id = clean.image_ids[error.image_id]
        raise Unprocessable(f"Image {image_id}: {error.detail}.", image_id=str(image_id)) from error


def _checkpoints(job: RunningJob, order: Order, clean: CleanSet, lineage: Lineage) -> Checkpoints:
    done_by = {
        "training": VERSION,
        "method": order.method_name,
        "options": dict(order.given),
        "backbone": lineage.backbone,
        "tone": None if clean.tone is None else asdict(clean.tone),
        # A worker of another make must not go on with this one's half-trained network.
        "code": lineage.code_version,
        "libraries": lineage.libraries,
        "precision": str(search_precision()),
    }
    grouped = zip(clean.groups.ids, clean.groups.group.tolist(), strict=True)
    key = content_key(done_by, [f"{sha256} {group}" for sha256, group in grouped])
    keeper = Checkpoints(job.settings.work_dir, key)
    work.note(keeper.folder, Use.JOB, job.dataset_id)
    return keeper


def _trained(
    order: Order, data: TrainingSet, keeper: Checkpoints, progress: Progress, share: Share
) -> Trained:
    options = order.options
    # An attempt whose worker died is not counted: its successor takes over its steps, but not its time.
    ends_at = None if options.max_minutes is None else time.monotonic() + 60 * options.max_minutes

    def out_of_time() -> bool:
        return ends_at is not None and time.monotonic() >= ends_at

    try:
        return order.method.train(
            data,
            order.preset,
            order.weights,
            order.own_options,
            seed=options.seed,
            budget=Budget(options.max_steps, out_of_time),
            keeper=keeper,
            on_progress=progress,
            share=share,
        )
    except TooFewImages as error:
        raise Unprocessable(str(error)) from error


def _calibrated(order: Order, clean: CleanSet, trained: Trained, aside: NDArray[np.float32]) -> Calibration:
    known = trained.out_of_fold.values
    good = taken_for_good(aside, clean.good_set_aside, len(known) / len(clean.images))
    return calibrate(np.concatenate([known, good]), order.options.target_fpr, order.options.review_fpr)


def _card(
    job: RunningJob, order: Order, clean: CleanSet, trained: Trained, calibration: Calibration
) -> CalibrationCard:
    with reading(job.sessions) as session:
        at = now(session)
    return CalibrationCard(
        method=f"conformal, {trained.calibrated_by}",
        n=len(calibration.scores),
        suspects_heeded=len(calibration.scores) - len(trained.out_of_fold.values),
        good_set_aside=clean.good_set_aside,
        in_sample=trained.in_sample,
        version=order.version,
        date=at,
        target_fpr=order.options.target_fpr,
        review_fpr=order.options.review_fpr,
        threshold=calibration.threshold,
        review_threshold=calibration.review_threshold,
    )


def _thinned(curve: Sequence[CurvePoint], points: int) -> list[CurvePoint]:
    """At most so many points, evenly, first and last among them: a row is no place for a million."""
    if len(curve) <= points:
        return list(curve)
    kept = np.linspace(0, len(curve) - 1, points).round().astype(int)
    return [curve[i] for i in kept]


@contextmanager
def _folder(job: RunningJob) -> Iterator[Path]:
    """For the artifacts before they are rows. After a kill a later attempt removes it, or a week does."""
    name = f"artifacts-{job.id}-"
    # This attempt's own: one that was thought dead may wake up, fail, and remove what it wrote.
    folder = job.settings.work_dir / f"{name}{uuid4().hex}"
    work.note(folder, Use.JOB, job.dataset_id)
    going = [folder]
    try:
        yield folder
        going = list(job.settings.work_dir.glob(f"{name}*"))
    finally:
        for one in going:
            shutil.rmtree(one, ignore_errors=True)


def _report(outcome: Outcome, parity: Parity, stages: Stages) -> None:
    detector_files.write_report(
        outcome.folder / "report.json",
        lineage=outcome.lineage,
        card=outcome.card,
        curve=outcome.curve,
        parity=parity,
        stage_seconds=stages.seconds,
        peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )


def _write(session: Session, job: RunningJob, outcome: Outcome) -> dict[str, Any]:
    assert job.detector_id is not None  # noqa: S101 - `training_order.read` has looked
    row = detectors.lock(session, job.detector_id)
    row.lineage = outcome.lineage.model_dump(mode="json")
    row.calibration = outcome.card.model_dump(mode="json")
    row.curve = [asdict(point) for point in outcome.curve]
    for file in detector_files.files_in(outcome.folder):
        artifacts.write(
            session,
            row.id,
            file.path.name,
            file.path,
            media_type=file.media_type,
            schema_version=detector_files.SCHEMA_VERSION,
            max_bytes=job.settings.max_artifact_bytes,
        )
    return {"detector_id": str(row.id), "images": outcome.lineage.images, "threshold": outcome.card.threshold}
