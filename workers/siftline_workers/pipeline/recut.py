"""The job `recut`: a version's signals and people's decisions in, a new version out, in seconds.

Nothing is scored again: order and scores stay, and only what is concluded from them is new. No torch here.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from time import monotonic
from typing import Any

import numpy as np
from sqlalchemy.orm import Session

from siftline.domain import split
from siftline.domain.review import is_anomalous
from siftline.domain.scores import ImageId, ScoredImages
from siftline.domain.split import Split
from siftline.schemas import PurifyOptions
from siftline.store import purifications, recuts
from siftline.store.models import Purification
from siftline.store.purifications import NewVersion
from siftline.store.recuts import Judgement, SignalRow
from siftline.store.session import now, reading
from siftline_workers.running import RunningJob


def run(job: RunningJob) -> None:
    """Cut the version `params["version"]` anew, at `cut_score` or by expected cost with `cost_ratio`.

    Raises NotFound when there is no such version (any more), and lets Cancelled and LostJob pass.
    """
    began = monotonic()
    job.report("read", 0.0)
    with reading(job.sessions) as session:
        base = purifications.numbered(session, job.dataset_id, int(job.params["version"]))
        ranked = _ranked(recuts.signals(session, base.id))
    options = _options(base, job.params.get("cost_ratio"))
    job.report("split", 0.3)
    decided = split.decide(
        ranked.scores,
        ranked.signals,
        cost_ratio=options.cost_ratio,
        prior=options.contamination_hint,
        groups=ranked.groups,
        seed=options.seed,
        decided=ranked.decided,
        cut_score=job.params.get("cut_score"),
    )
    version = _version(base, options, decided, ranked.review_revision, seconds=monotonic() - began)
    judgements = _judgements(ranked, decided)
    job.report("write", 0.6)
    job.succeed(lambda session: _write(session, job, base, version, judgements))


@dataclass(frozen=True, slots=True)
class _Ranked:
    """A version as it was ranked, and what people have said since."""

    ranks: list[int]
    scores: ScoredImages
    """By content, as when it was purified: the same images get the same answer."""
    signals: dict[str, ScoredImages]
    groups: list[int]
    decided: dict[ImageId, bool]
    review_revision: int


def _ranked(rows: Iterable[SignalRow]) -> _Ranked:
    ranks: list[int] = []
    ids: list[ImageId] = []
    scores: list[float] = []
    signals: dict[str, list[float]] = {}
    groups: list[int] = []
    first: dict[str, int] = {}
    decided: dict[ImageId, bool] = {}
    revision = 0
    for row in rows:
        ranks.append(row.rank)
        ids.append(row.sha256)
        scores.append(row.score)
        for name, value in row.signals.items():
            signals.setdefault(name, []).append(value)
        # A version names of each image all others of its group, so the least name stands for the group.
        groups.append(first.setdefault(min([str(row.image_id), *row.near_duplicates]), len(groups)))
        if row.review is not None:
            decided[row.sha256] = is_anomalous(row.review)
        revision = row.review_revision
    key = tuple(ids)
    return _Ranked(
        ranks,
        ScoredImages(key, np.array(scores, np.float32)),
        {name: ScoredImages(key, np.array(values, np.float32)) for name, values in signals.items()},
        groups,
        decided,
        revision,
    )


def _options(base: Purification, cost_ratio: float | None) -> PurifyOptions:
    known = {name: value for name, value in base.options.items() if name in PurifyOptions.model_fields}
    return PurifyOptions.model_validate(known | ({} if cost_ratio is None else {"cost_ratio": cost_ratio}))


def _version(
    base: Purification, options: PurifyOptions, decided: Split, review_revision: int, *, seconds: float
) -> NewVersion:
    verdicts = Counter(decided.verdict)
    return NewVersion(
        options=base.options | options.model_dump(mode="json"),
        backbone=base.backbone,
        contamination=asdict(decided.contamination),
        cut=asdict(decided.cut),
        counts={
            "clean": verdicts["clean"],
            "suspect": verdicts["suspect"],
            "needs_review": int(decided.needs_review.sum()),
            "rejected_files": base.counts["rejected_files"],
        },
        heat_scale=base.heat_scale,
        stage_seconds={"recut": round(seconds, 3)},
        review_revision=review_revision,
        based_on=base.version,
    )


def _judgements(ranked: _Ranked, decided: Split) -> list[Judgement]:
    return [
        Judgement(
            rank=rank,
            p_anomalous=float(decided.p_anomalous[i]),
            interval=(float(decided.interval[i, 0]), float(decided.interval[i, 1])),
            verdict=decided.verdict[i],
            needs_review=bool(decided.needs_review[i]),
            confidence=float(decided.confidence[i]),
        )
        for i, rank in enumerate(ranked.ranks)
    ]


def _write(
    session: Session,
    job: RunningJob,
    base: Purification,
    version: NewVersion,
    judgements: list[Judgement],
) -> dict[str, Any]:
    number = recuts.write_recut(
        session, base=base, job_id=job.id, created_at=now(session), version=version, judgements=judgements
    )
    return {"version": number, "counts": version.counts}
