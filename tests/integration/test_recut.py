"""A version cut anew after people decided: the same signals, other conclusions, on both databases."""

import subprocess
import sys
import threading
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session, sessionmaker
from uuid_utils.compat import uuid7

from siftline.domain import split
from siftline.domain.errors import NotFound
from siftline.domain.jobs import JobKind, JobState
from siftline.domain.scores import ScoredImages
from siftline.settings import Settings
from siftline.store import images, jobs, purifications
from siftline.store.models import Dataset, Image, Purification, PurifiedItem
from siftline.store.purifications import NewItem, NewVersion
from siftline.store.session import now, reading, transaction
from siftline_workers.pipeline import recut
from siftline_workers.running import Cancelled, RunningJob
from tests.integration.job_steps import add_dataset, claim, read

N, BAD = 200, 20
OPTIONS = {"seed": 3, "cost_ratio": 4.0, "backbone": "lite", "contamination_hint": 0.05}
COPIED = ("rank", "image_id", "score", "signals", "near_duplicates", "explanation", "heat")
JUDGED = ("p_anomalous", "interval_lo", "interval_hi", "verdict", "needs_review", "confidence", "cluster")


@dataclass(frozen=True, slots=True)
class Line:
    """A dataset whose version 1 a purification would have written."""

    sessions: sessionmaker[Session]
    settings: Settings
    dataset_id: UUID

    def running(self, **params: object) -> RunningJob:
        with transaction(self.sessions) as session:
            job_id = jobs.create(session, self.dataset_id, JobKind.RECUT, {"version": 1} | params).id
        held = claim(self.sessions, job_id)
        return RunningJob(read(self.sessions, job_id), held, self.settings, self.sessions, threading.Event())

    def recut(self, **params: object) -> int:
        job = self.running(**params)
        recut.run(job)
        result = read(self.sessions, job.id).result
        assert result is not None
        assert result["counts"] == self.version(result["version"]).counts
        return int(result["version"])

    def version(self, number: int) -> Purification:
        with reading(self.sessions) as session:
            return purifications.numbered(session, self.dataset_id, number)

    def items(self, number: int) -> list[PurifiedItem]:
        query = (
            select(PurifiedItem)
            .where(PurifiedItem.purification_id == self.version(number).id)
            .order_by(PurifiedItem.rank)
        )
        with reading(self.sessions) as session:
            return list(session.scalars(query))

    def decide(self, review: str, *image_ids: UUID) -> None:
        with transaction(self.sessions) as session:
            session.execute(update(Image).where(Image.id.in_(image_ids)).values(review=review))
            session.execute(update(Dataset).values(review_revision=Dataset.review_revision + 1))


@cache
def judged() -> tuple[ScoredImages, ScoredImages, list[int], split.Split]:
    """Scores, another signal, what belongs together, and the split that follows: no test changes them."""
    random = np.random.default_rng(0)
    values = np.concatenate([random.gamma(6.0, size=N - BAD), 22 + 3 * random.normal(size=BAD)])
    scores = ScoredImages(tuple(f"{i:064x}" for i in range(N)), values.astype(np.float32))
    noisy = ScoredImages(scores.ids, (scores.values + random.normal(size=N)).astype(np.float32))
    groups = [i // 2 * 2 if i < 10 else i for i in range(N)]  # five pairs of near-duplicates
    found = split.decide(scores, {"a": scores, "b": noisy}, prior=0.05, groups=groups, seed=3)
    return scores, noisy, groups, found


@pytest.fixture
def line(sessions: sessionmaker[Session], settings: Settings) -> Line:
    dataset_id = add_dataset(sessions)
    scores, noisy, groups, found = judged()
    ids = [uuid7() for _ in range(N)]
    order = np.argsort(-scores.values)
    items = [
        NewItem(
            image_id=ids[i],
            rank=rank,
            score=float(scores.values[i]),
            p_anomalous=float(found.p_anomalous[i]),
            interval=(float(found.interval[i, 0]), float(found.interval[i, 1])),
            verdict=found.verdict[i],
            needs_review=bool(found.needs_review[i]),
            confidence=float(found.confidence[i]),
            signals={"a": float(scores.values[i]), "b": float(noisy.values[i])},
            near_duplicates=[ids[j] for j in range(N) if groups[j] == groups[i] and j != i],
            cluster=rank // 4,
            explanation={"distance": float(scores.values[i]), "neighbours": []},
            heat_rows=1,
            heat_cols=3,
            heat=bytes([rank % 256, 1, 2]),
        )
        for rank, i in enumerate(order, 1)
    ]
    verdicts = [item.verdict for item in items]
    counts = {verdict: verdicts.count(verdict) for verdict in ("clean", "suspect")}
    version = NewVersion(
        options=OPTIONS,
        backbone={"name": "lite", "fingerprint": "f"},
        contamination=asdict(found.contamination),
        cut=asdict(found.cut),
        counts=counts | {"needs_review": int(found.needs_review.sum()), "rejected_files": 2},
        heat_scale={"min": 0.0, "max": 1.0},
        stage_seconds={},
    )
    with transaction(sessions) as session:
        images.add_new(
            session, [_row(session, dataset_id, *pair) for pair in zip(ids, scores.ids, strict=True)]
        )
        job = jobs.create(session, dataset_id, JobKind.PURIFY, {})
        purifications.write_version(
            session,
            dataset_id=dataset_id,
            job_id=job.id,
            created_at=now(session),
            version=version,
            items=items,
        )
    return Line(sessions, settings, dataset_id)


def _row(session: Session, dataset_id: UUID, image_id: UUID, sha256: str) -> dict[str, Any]:
    return {
        "id": image_id,
        "dataset_id": dataset_id,
        "name": f"{sha256[-4:]}.png",
        "sha256": sha256,
        "bytes": 1,
        "width": 8,
        "height": 8,
        "mode": "RGB",
        "format": "PNG",
        "created_at": now(session),
    }


def test_without_decisions_the_new_version_says_what_the_old_one_said(line: Line) -> None:
    assert line.recut() == 2
    old, new = line.version(1), line.version(2)
    assert (new.contamination, new.cut, new.counts) == (old.contamination, old.cut, old.counts)
    assert (new.backbone, new.heat_scale) == (old.backbone, old.heat_scale)
    assert OPTIONS.items() <= new.options.items()
    assert (new.based_on, new.review_revision) == (1, 0)
    for before, after in zip(line.items(1), line.items(2), strict=True):
        for name in COPIED + JUDGED:
            assert getattr(after, name) == getattr(before, name), name


def test_decisions_stand_in_the_new_version_and_tell_of_the_others(line: Line) -> None:
    before = line.items(1)
    suspects = [item for item in before if item.verdict == "suspect"]
    assert 10 < len(suspects) < 30
    line.decide("keep", *(item.image_id for item in suspects[:8]))
    line.decide("reject", before[-1].image_id)
    number = line.recut()
    after = line.items(number)
    kept = {item.image_id: item for item in after if item.image_id in {s.image_id for s in suspects[:8]}}
    for item in kept.values():
        assert (item.verdict, item.p_anomalous, item.interval_hi, item.confidence) == ("clean", 0, 0, 1)
        assert item.cluster is None
        assert not item.needs_review
    rejected = after[-1]
    assert (rejected.verdict, rejected.p_anomalous, rejected.interval_lo) == ("suspect", 1, 1)
    assert rejected.cluster == N // 4, "a suspect shows the cluster it always had"
    version = line.version(number)
    assert (version.based_on, version.review_revision) == (1, 2)
    assert version.contamination["estimate"] < line.version(1).contamination["estimate"]
    for old, new in zip(before, after, strict=True):
        for name in COPIED:
            assert getattr(new, name) == getattr(old, name), name
    with reading(line.sessions) as session:
        cleared = purifications.moved(session, line.version(1).id, version.id, verdict="clean")
        suspect = purifications.moved(session, line.version(1).id, version.id, verdict="suspect")
    assert set(kept) <= set(cleared)
    assert rejected.image_id in suspect


def test_a_decision_taken_back_is_forgotten_by_the_next_cut(line: Line) -> None:
    worst = line.items(1)[0].image_id
    line.decide("keep", worst)
    assert line.items(line.recut())[0].verdict == "clean"
    with transaction(line.sessions) as session:
        session.execute(update(Image).where(Image.id == worst).values(review=None))
    again = line.recut(version=2)
    assert line.version(again).based_on == 2
    assert [item.p_anomalous for item in line.items(again)] == [item.p_anomalous for item in line.items(1)]


def test_the_cut_can_be_set_by_a_person_or_by_another_cost(line: Line) -> None:
    by_hand = line.items(line.recut(cut_score=7.0))
    assert [item.verdict == "suspect" for item in by_hand] == [item.score > 7.0 for item in by_hand]
    assert all((item.cluster is None) == (item.verdict == "clean") for item in by_hand)
    assert line.version(2).cut == {"score": 7.0, "rule": "set by a person at 7", "uncertain": False}
    number = line.recut(cost_ratio=0.1)
    assert line.version(number).options["cost_ratio"] == 0.1
    assert line.version(number).counts["suspect"] < line.version(1).counts["suspect"]


def test_an_unknown_version_is_a_clear_error_and_a_cancelled_job_writes_nothing(line: Line) -> None:
    with pytest.raises(NotFound, match="no purification version 9"):
        recut.run(line.running(version=9))
    job = line.running()
    with transaction(line.sessions) as session:
        jobs.request_cancel(session, job.id)
    with pytest.raises(Cancelled):
        recut.run(job)
    assert read(line.sessions, job.id).state == JobState.CANCELLING
    with pytest.raises(NotFound):
        line.version(2)


def test_recutting_needs_no_torch() -> None:
    code = "import sys, siftline_workers.pipeline.recut; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
