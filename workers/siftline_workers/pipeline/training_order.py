"""What a training is to do, read from the detector's row, and where its outcome comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any
from uuid import UUID

from siftline.domain.errors import NotFound, Unprocessable
from siftline.schemas import Lineage, TrainOptions
from siftline.settings import Settings
from siftline.store import detectors
from siftline.store.models import Detector
from siftline.store.session import reading
from siftline_workers.methods.backbones import Backbone, Preset, find_weights, preset_named
from siftline_workers.methods.detector_table import DETECTORS
from siftline_workers.methods.detectors import Method
from siftline_workers.methods.weights import WeightsUnusable, sha256_of
from siftline_workers.pipeline.clean_set import CleanSet
from siftline_workers.running import RunningJob

LIBRARIES = ("torch", "timm", "openvino", "onnx", "numpy")


@dataclass(frozen=True, slots=True)
class Order:
    """One detector to be made, with what its training takes."""

    detector_id: UUID
    dataset_id: UUID
    version: int
    method_name: str
    method: Method
    given: Mapping[str, Any]
    """All options as they were asked for, the backbone named."""
    options: TrainOptions
    """Those that every method takes."""
    preset: Preset
    weights: Path
    fingerprint: str
    """The extractor's."""

    @property
    def own_options(self) -> dict[str, Any]:
        """Those that only this method takes."""
        return {name: value for name, value in self.given.items() if name not in TrainOptions.model_fields}


def read(job: RunningJob) -> tuple[Order, Backbone]:
    """The order, and what extracts the method's features.

    Raises Unprocessable when backbone, weights or method are not to be had here.
    """
    if job.detector_id is None:
        raise NotFound("The detector was deleted before its training began.")
    with reading(job.sessions) as session:
        row: Detector = detectors.get(session, job.detector_id)[0]
    if row.method not in DETECTORS:
        raise Unprocessable(f"This worker knows no method {row.method!r}; it may be older than the service.")
    method = DETECTORS[row.method]
    options = TrainOptions.model_validate({name: row.options[name] for name in TrainOptions.model_fields})
    preset, weights, extractor = _backbone(method, options, job.settings)
    order = Order(
        detector_id=row.id,
        dataset_id=row.dataset_id,
        version=row.version,
        method_name=row.method,
        method=method,
        given=row.options,
        options=options,
        preset=preset,
        weights=weights,
        fingerprint=extractor.fingerprint,
    )
    return order, extractor


def _backbone(method: Method, options: TrainOptions, settings: Settings) -> tuple[Preset, Path, Backbone]:
    try:
        preset = preset_named(options.backbone or settings.backbone)
        weights = find_weights(preset, settings.weights_dir)
        return preset, weights, method.extractor(preset, weights, settings.device)
    except (ValueError, WeightsUnusable) as error:
        # Both are written for users: they name the choices, or the file that is missing.
        raise Unprocessable(str(error)) from error


def lineage(order: Order, clean: CleanSet) -> Lineage:
    """Enough to train the detector again."""
    return Lineage(
        dataset_id=order.dataset_id,
        version=order.version,
        images=len(clean.images),
        images_sha256=clean.sha256,
        review_revision=clean.review_revision,
        options={"method": order.method_name, **order.given},
        code_version=version_of("siftline"),
        backbone={
            "name": order.preset.name,
            "fingerprint": order.fingerprint,
            "weights_sha256": sha256_of(order.weights),
        },
        libraries={name: version_of(name) for name in LIBRARIES},
    )
