"""What jobs on a whole dataset start from: its images, what people said of them, their features."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.orm import Session, sessionmaker

from siftline.domain.errors import Unprocessable
from siftline.domain.review import is_anomalous
from siftline.domain.scores import ImageId
from siftline.imaging import SampleRange, Tone, tone_of_set
from siftline.settings import Settings
from siftline.store import datasets, images
from siftline.store.blobs import image_key
from siftline.store.blobs_open import open_blobs
from siftline.store.session import reading
from siftline_workers.methods.backbones import Backbone, find_weights, load_backbone, preset_named
from siftline_workers.methods.features import PatchFeatures
from siftline_workers.methods.weights import WeightsUnusable
from siftline_workers.pipeline.checkpoints import Checkpoints, content_key
from siftline_workers.pipeline.extract import ExtractionFailed, StoredImage, extract
from siftline_workers.pipeline.feature_cache import FeatureCache
from siftline_workers.pipeline.stages import Progress


@dataclass(frozen=True, slots=True)
class DatasetImages:
    """Methods know an image by its content, so the same images get the same answer in any dataset."""

    ids: Mapping[ImageId, UUID]
    stored: tuple[StoredImage, ...]
    """In an order that only their content decides."""
    tone: Tone | None
    decided: Mapping[ImageId, bool]
    """What people decided: True = anomalous."""
    review_revision: int


def load(dataset_id: UUID, settings: Settings, sessions: sessionmaker[Session]) -> DatasetImages:
    """Raises Unprocessable for a dataset without images, NotFound when it is gone."""
    blobs = open_blobs(settings)

    def reader(sha256: str) -> Callable[[], bytes]:
        def read() -> bytes:
            with blobs.open(image_key(dataset_id, sha256)) as file:
                return file.read()

        return read

    ids: dict[ImageId, UUID] = {}
    decided: dict[ImageId, bool] = {}
    with reading(sessions) as session:
        # Asked first: a decision made meanwhile is heeded without being counted, never the other way round.
        revision = datasets.get(session, dataset_id).review_revision
        for image in images.of_dataset(session, dataset_id):
            ids[image.sha256] = image.id
            if image.review is not None:
                decided[image.sha256] = is_anomalous(image.review)
        ranges = images.sample_ranges(session, dataset_id)
    if not ids:
        raise Unprocessable("The dataset has no images.")
    return DatasetImages(
        ids=ids,
        stored=tuple(StoredImage(sha256, sha256, reader(sha256)) for sha256 in sorted(ids)),
        tone=tone_of_set(SampleRange(*found) for found in ranges),
        decided=decided,
        review_revision=revision,
    )


def named_backbone(name: str | None, settings: Settings) -> Backbone:
    """The backbone of that name, or the settings' own. Raises Unprocessable when it cannot be had."""
    try:
        preset = preset_named(name or settings.backbone)
        weights = find_weights(preset, settings.weights_dir)
        keeper = Checkpoints(settings.work_dir, content_key({"network": preset.name}, ()))
        return load_backbone(preset, weights, settings.device, keeper)
    except (ValueError, WeightsUnusable) as error:
        # Both are written for users: they name the choices, or the file that is missing.
        raise Unprocessable(str(error)) from error


def features_of(
    found: DatasetImages, backbone: Backbone, settings: Settings, progress: Progress
) -> PatchFeatures:
    """From the cache, or extracted and kept there. Raises Unprocessable for an image that cannot be read."""
    try:
        return extract(found.stored, backbone, FeatureCache(settings.features_dir), progress, found.tone)
    except ExtractionFailed as error:
        image_id = found.ids[error.image_id]
        raise Unprocessable(f"Image {image_id}: {error.detail}.", image_id=str(image_id)) from error
