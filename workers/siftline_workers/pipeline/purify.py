"""The job `purify`: a dataset's stored images in, one immutable ranked version out."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any
from uuid import UUID

import numpy as np
from sqlalchemy.orm import Session

from siftline.domain.errors import Unprocessable
from siftline.schemas import PurifyOptions
from siftline.settings import Settings
from siftline.store import purifications, receipts, work
from siftline.store.purifications import NewItem, NewVersion
from siftline.store.session import now, reading
from siftline.store.work import Use
from siftline_workers.methods.backbones import Backbone, find_weights
from siftline_workers.methods.cdd import CDD
from siftline_workers.methods.distillation import stages_of
from siftline_workers.methods.explanations import image_of, surroundings
from siftline_workers.methods.features import PatchFeatures
from siftline_workers.methods.neighbours import search_precision
from siftline_workers.methods.students import StudentSubModel
from siftline_workers.methods.weights import WeightsUnusable
from siftline_workers.pipeline import dataset_images, descriptions, incremental, parts, ranking
from siftline_workers.pipeline.checkpoints import Checkpoints, content_key
from siftline_workers.pipeline.dataset_images import DatasetImages
from siftline_workers.pipeline.descriptions import Basis
from siftline_workers.pipeline.incremental import Growth
from siftline_workers.pipeline.ranking import Ranking, RankOptions
from siftline_workers.pipeline.stages import Progress, Stages, part
from siftline_workers.pipeline.submodels import StudentPieces, as_planned
from siftline_workers.running import RunningJob

SHARES = {
    "load": 0.16,
    "extract": 0.32,
    **{name: 0.5 * share for name, share in ranking.SHARES.items()},
    "write": 0.02,
}
"""Of the time of a run without cached features, as measured on 738 images with `lite` on two busy cores."""

_A_STUDENT = 0.3
"""What one of LLBNAD's students takes, where they are wanted: this share of the time of all the rest."""


def run(job: RunningJob) -> None:
    """Purify the dataset of `job`, heeding what people decided. Its params are `PurifyOptions` with the
    backbone named.

    Raises Unprocessable for what the user can mend (no images, no weights, an unreadable image), and lets
    Cancelled and LostJob pass.
    """
    options = PurifyOptions.model_validate(job.params)
    stages = Stages(_shares(options), job.report)
    with stages.stage("load"):
        found, backbone, growth = _loaded(job, options)
    basis, checkpoints = _kept(job, options, backbone, found, growth)
    offers = parts.of_extraction(job, found, backbone)
    with stages.stage("extract") as progress, parts.offered(job, offers):
        own = 1.0 if options.submodels == "memory" else 0.5
        ids = tuple(image.image_id for image in found.stored)
        earlier = None if growth is None else descriptions.kept(basis, ids)
        new = replace(found, stored=found.stored[len(earlier.ids) :]) if earlier else found
        features = dataset_images.features_of(new, backbone, job.settings, part(progress, 0.0, own))
        students = _students(options, found, backbone, job.settings, part(progress, own, 1.0))
    chosen = RankOptions(**options.model_dump(exclude={"backbone", "submodels"}))
    share = parts.sharing(job, checkpoints, len(found.stored))
    ranked = ranking.rank(
        features,
        chosen,
        checkpoints,
        stages,
        found.decided,
        basis=basis,
        earlier=earlier,
        students=students,
        share=share,
    )
    with stages.stage("write"):
        version = _version(options, backbone, ranked, stages.seconds)
        version = replace(version, review_revision=found.review_revision)
        if growth is not None:
            version.options[incremental.BASIS_KEY] = growth.version
        items = list(_items(found.ids, ranked))
        told = {} if growth is None else growth.described(len(items))
        job.succeed(lambda session: _write(session, job, version, items) | told)
    checkpoints.clear()
    _keep_only(basis.pieces, job)


def _shares(options: PurifyOptions) -> dict[str, float]:
    if options.submodels == "memory":
        return SHARES
    return SHARES | {"llbnad": _A_STUDENT * options.partitions * options.subsets}


def students_of(job: RunningJob, progress: Progress) -> tuple[StudentPieces, Checkpoints] | None:
    """What a helper takes to train some of the job's sub-models; None where the job keeps it elsewhere."""
    options = PurifyOptions.model_validate(job.params)
    found, backbone, growth = _loaded(job, options)
    students = _students(options, found, backbone, job.settings, progress)
    checkpoints = _kept(job, options, backbone, found, growth)[1]
    pieces = None if students is None else as_planned(students, checkpoints)
    return None if pieces is None else (pieces, checkpoints)


def _loaded(job: RunningJob, options: PurifyOptions) -> tuple[DatasetImages, Backbone, Growth | None]:
    found = dataset_images.load(job.dataset_id, job.settings, job.sessions)
    backbone = dataset_images.named_backbone(options.backbone, job.settings)
    found, growth = _basis(job, options, backbone, found)
    return found, backbone, growth


def _students(
    options: PurifyOptions, found: DatasetImages, backbone: Backbone, settings: Settings, progress: Progress
) -> StudentSubModel | None:
    """The untrained sub-models where the user wants students. Raises Unprocessable for a network that has no
    stages to distil.
    """
    if options.submodels == "memory":
        return None
    preset = backbone.preset
    try:
        stages = stages_of(preset)
        teacher = CDD.extractor(preset, find_weights(preset, settings.weights_dir), settings.device)
    except (ValueError, WeightsUnusable) as error:
        raise Unprocessable(str(error)) from error
    features = dataset_images.features_of(found, teacher, settings, progress)
    return StudentSubModel(features, stages, preset.grid, seed=options.seed)


def _basis(
    job: RunningJob, options: PurifyOptions, backbone: Backbone, found: DatasetImages
) -> tuple[DatasetImages, Growth | None]:
    """The images in the order that tells the basis from those that were added since, if any were."""
    with reading(job.sessions) as session:
        earlier = incremental.earlier(
            session, job.dataset_id, seed=options.seed, fingerprint=backbone.fingerprint
        )
    return (earlier and incremental.grown(found, *earlier)) or (found, None)


def _kept(
    job: RunningJob, options: PurifyOptions, backbone: Backbone, found: DatasetImages, growth: Growth | None
) -> tuple[Basis, Checkpoints]:
    """Where the pieces are that follow from the basis alone, for later runs, and where those of this run."""
    ids = [image.image_id for image in found.stored]
    images = len(ids) if growth is None else growth.images
    made_by: dict[str, object] = {
        "ranking": ranking.VERSION,
        "seed": options.seed,
        "backbone": backbone.fingerprint,
        "tone": None if found.tone is None else asdict(found.tone),
        # Workers of different make must not mix their shards in one graph.
        "precision": str(search_precision()),
    }
    basis = content_key(made_by, ids[:images])
    done_by = {"basis": basis, "options": options.model_dump(mode="json"), "decided": dict(found.decided)}
    pieces, own = (Checkpoints(job.settings.work_dir, key) for key in (basis, content_key(done_by, ids)))
    work.note(pieces.folder, Use.BASIS, job.dataset_id)
    work.note(own.folder, Use.JOB, job.dataset_id)
    return Basis(images, pieces), own


def _keep_only(pieces: Checkpoints, job: RunningJob) -> None:
    """A later update is built on the basis of this version alone; another job that is still at an earlier one
    makes again what it misses.
    """
    pieces.keep_used()
    work.note(pieces.folder, Use.BASIS, job.dataset_id)  # another dataset may have let it go meanwhile
    work.let_go(job.settings.work_dir, job.dataset_id, use=Use.BASIS, but=pieces.folder)


def _version(
    options: PurifyOptions, backbone: Backbone, ranked: Ranking, seconds: Mapping[str, float]
) -> NewVersion:
    """All of the version but the count of rejected files, which only the database knows."""
    decided = ranked.split
    verdicts = Counter(decided.verdict)
    return NewVersion(
        options=options.model_dump(mode="json"),
        backbone={"name": backbone.preset.name, "fingerprint": backbone.fingerprint},
        contamination=asdict(decided.contamination),
        cut=asdict(decided.cut),
        counts={
            "clean": verdicts["clean"],
            "suspect": verdicts["suspect"],
            "needs_review": int(decided.needs_review.sum()),
        },
        heat_scale={"min": 0.0, "max": 1.0},
        stage_seconds=dict(seconds),
    )


def _items(ids: Mapping[str, UUID], ranked: Ranking) -> Iterator[NewItem]:
    """One row an image, most suspect first; images of equal score by their content, so reruns agree."""
    features, decided, scores = ranked.features, ranked.split, ranked.fused.scores
    order = sorted(range(len(scores.ids)), key=lambda i: (-scores.values[i], scores.ids[i]))
    heat = np.rint(np.clip(ranked.heat, 0.0, 1.0) * 255.0).astype(np.uint8)
    same_thing: dict[int, list[int]] = {}
    for i, group in enumerate(ranked.groups.group.tolist()):
        same_thing.setdefault(group, []).append(i)
    for rank, i in enumerate(order, start=1):
        rows, cols = features.grid(i)
        yield NewItem(
            image_id=ids[scores.ids[i]],
            rank=rank,
            score=float(scores.values[i]),
            p_anomalous=float(decided.p_anomalous[i]),
            interval=(float(decided.interval[i, 0]), float(decided.interval[i, 1])),
            verdict=decided.verdict[i],
            needs_review=bool(decided.needs_review[i]),
            confidence=float(decided.confidence[i]),
            signals={name: float(signal.values[i]) for name, signal in ranked.fused.signals.items()},
            near_duplicates=[
                ids[scores.ids[other]] for other in same_thing[int(ranked.groups.group[i])] if other != i
            ],
            cluster=int(ranked.cluster[i]),
            explanation=_explanation(ids, features, ranked, i),
            heat_rows=rows,
            heat_cols=cols,
            heat=heat[features.offsets[i] : features.offsets[i + 1]].tobytes(),
        )


def _explanation(ids: Mapping[str, UUID], features: PatchFeatures, ranked: Ranking, i: int) -> dict[str, Any]:
    """`schemas.Explanation` of image i, without its own id and the version, which the row has."""
    found = ranked.oddest

    def box(row: int) -> dict[str, float]:
        return dict(zip(("left", "top", "right", "bottom"), surroundings(features, row), strict=True))

    return {
        "box": box(int(found.rows[i])),
        "distance": float(found.distance[i]),
        "typical_distance": found.typical_distance,
        "neighbours": [
            {
                "image_id": str(ids[features.ids[image_of(features, row)]]),
                "box": box(row),
                "distance": float(distance),
            }
            for row, distance in zip(found.neighbours[i].tolist(), found.distances[i], strict=True)
            if row >= 0
        ],
    }


def _write(
    session: Session, job: RunningJob, version: NewVersion, items: Sequence[NewItem]
) -> dict[str, Any]:
    rejected = receipts.rejected_counts(session, [job.dataset_id]).get(job.dataset_id, 0)
    counts = version.counts | {"rejected_files": rejected}
    number = purifications.write_version(
        session,
        dataset_id=job.dataset_id,
        job_id=job.id,
        created_at=now(session),
        version=replace(version, counts=counts),
        items=items,
    )
    return {"version": number, "counts": counts}
