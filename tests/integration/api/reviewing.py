"""Steps of review and export tests: a ranked dataset without waiting for a worker, and several people."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from fastapi import Request
from fastapi.testclient import TestClient
from sqlalchemy import insert
from sqlalchemy.orm import Session, sessionmaker
from uuid_utils.compat import uuid7

from siftline.access.principal import Principal, Role, get_principal
from siftline.domain.jobs import JobKind
from siftline.store import jobs, purifications
from siftline.store.models import Dataset, Image
from siftline.store.session import now, reading, transaction

HEAT = bytes([0, 0, 0, 250, 240, 0, 0, 0, 0, 0, 0, 255])  # 3 × 4


def people(api: TestClient) -> None:
    """Believe the header `X-Who`: who a request comes from is tested elsewhere."""

    async def who(request: Request) -> Principal:
        return Principal(request.headers.get("X-Who", "local"), Role.ADMIN)

    api.app.dependency_overrides[get_principal] = who  # type: ignore[attr-defined]  # TestClient's app is ours


def add_images(sessions: sessionmaker[Session], n: int) -> tuple[UUID, list[UUID]]:
    """A dataset of `n` images without bytes, in upload order."""
    with transaction(sessions) as session:
        at = now(session)
        dataset = Dataset(id=uuid7(), name="many", created_at=at, options={})
        session.add(dataset)
        session.flush()
        ids = [uuid7() for _ in range(n)]
        session.execute(insert(Image), list(_rows(dataset.id, ids, at)))
    return dataset.id, ids


def _rows(dataset_id: UUID, ids: Sequence[UUID], at: datetime) -> Iterator[dict[str, Any]]:
    for number, image_id in enumerate(ids):
        yield {
            "id": image_id,
            "dataset_id": dataset_id,
            "name": f"part/{number:05}.png",
            "sha256": f"{number:064x}",
            "bytes": 10,
            "width": 40,
            "height": 30,
            "mode": "L",
            "format": "png",
            "created_at": at,
        }


def rank(sessions: sessionmaker[Session], dataset_id: UUID, ranked: Sequence[UUID], *, suspects: int) -> int:
    """A version that ranks the images in the given order: scores fall from 1 towards 0, clusters by tens."""
    n = max(len(ranked), 1)
    items = (
        purifications.NewItem(
            image_id=image_id,
            rank=i + 1,
            score=1.0 - i / n,
            p_anomalous=1.0 - i / n,
            interval=(0.9 * (1.0 - i / n), 1.0 - 0.9 * i / n),
            verdict="suspect" if i < suspects else "clean",
            needs_review=abs(i - suspects) <= 1,
            confidence=0.5 + abs(i - suspects) / (2 * n),
            signals={"neighbours": 2.0 - i / n, "llbnad": (i * 7 % n) / n, "funad": 1.0 - i / n},
            near_duplicates=[],
            heat_rows=3,
            heat_cols=4,
            heat=HEAT,
        )
        for i, image_id in enumerate(ranked)
    )
    with transaction(sessions) as session:
        job = jobs.create(session, dataset_id, JobKind.PURIFY, {})
        return purifications.write_version(
            session,
            dataset_id=dataset_id,
            job_id=job.id,
            created_at=datetime.now(UTC),
            version=purifications.NewVersion(
                options={"seed": 3, "backbone": "lite", "cost_ratio": 4.0},
                backbone={"name": "lite", "fingerprint": "f00d"},
                contamination={"estimate": 0.1, "interval": [0.05, 0.2], "evidence": "strong"},
                cut={"score": 1.0 - (suspects - 0.5) / n, "rule": "expected-cost", "uncertain": False},
                counts={
                    "clean": len(ranked) - suspects,
                    "suspect": suspects,
                    "needs_review": 3,
                    "rejected_files": 0,
                },
                heat_scale={"min": 0.0, "max": 1.0},
                stage_seconds={"extract": 1.0},
            ),
            items=items,
        )


def ranked(sessions: sessionmaker[Session], n: int, *, suspects: int) -> list[str]:
    """The ids of a new dataset's images, the most suspect first."""
    dataset_id, ids = add_images(sessions, n)
    rank(sessions, dataset_id, ids, suspects=suspects)
    return [str(image_id) for image_id in ids]


def path_of(sessions: sessionmaker[Session], image_id: str) -> str:
    """Where the image's dataset is."""
    with reading(sessions) as session:
        return f"/datasets/{session.get_one(Image, UUID(image_id)).dataset_id}"


def decide(api: TestClient, path: str, who: str, *decisions: tuple[str, str], **headers: str) -> Any:
    body = {"decisions": [{"image_id": image_id, "decision": word} for image_id, word in decisions]}
    return api.post(f"{path}/reviews", json=body, headers={"X-Who": who} | headers)


def decide_by(api: TestClient, path: str, who: str, word: str, **selection: Any) -> Any:
    body = {"filter": selection, "decision": word}
    return api.post(f"{path}/reviews", json=body, headers={"X-Who": who})


def undo(api: TestClient, path: str, who: str, batch_id: str | None = None) -> Any:
    return api.post(f"{path}/reviews/undo", json={"batch_id": batch_id}, headers={"X-Who": who})


def said(api: TestClient, path: str) -> dict[str, tuple[str, str]]:
    """What stands on each image that has a decision: the word, and whose it is."""
    items = api.get(f"{path}/purified", params={"review": "any", "limit": 1000}).json()["items"]
    assert all(item["reviewed_at"] for item in items)
    return {item["image_id"]: (item["review"], item["reviewed_by"]) for item in items}
