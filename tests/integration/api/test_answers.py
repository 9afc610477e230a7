"""What can be read: the ranked split, its versions, lists, pictures."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from siftline.domain.jobs import JobKind
from siftline.settings import Settings
from siftline.store import jobs, purifications
from siftline.store.session import transaction
from tests.integration.api.conftest import is_problem, made, png, upload, zipped

N = 25


def write_version(sessions: sessionmaker[Session], dataset_id: str, ranked: list[str], suspects: int) -> int:
    """A version that ranks the images in the given order, the first `suspects` of them suspect."""
    items = [
        purifications.NewItem(
            image_id=UUID(image_id),
            rank=rank,
            score=1.0 - rank / 100,
            p_anomalous=1.0 / rank,
            interval=(0.5 / rank, 1.0 / rank),
            verdict="suspect" if rank <= suspects else "clean",
            needs_review=rank == suspects,
            confidence=0.9,
            signals={"llbnad": 1.0 - rank / 100, "funad": 0.25},
            near_duplicates=[UUID(ranked[0])],
            heat_rows=2,
            heat_cols=3,
            heat=bytes([0, 50, 100, 150, 200, 255]),
        )
        for rank, image_id in enumerate(ranked, 1)
    ]
    with transaction(sessions) as session:
        job = jobs.create(session, UUID(dataset_id), JobKind.PURIFY, {})
        return purifications.write_version(
            session,
            dataset_id=UUID(dataset_id),
            job_id=job.id,
            created_at=datetime.now(UTC),
            version=purifications.NewVersion(
                options={"seed": 3, "backbone": "lite"},
                backbone={"name": "lite", "fingerprint": "f"},
                contamination={"estimate": 0.1, "interval": [0.05, 0.2], "evidence": "weak"},
                cut={"score": 0.9, "rule": "expected-cost", "uncertain": False},
                counts={
                    "clean": len(ranked) - suspects,
                    "suspect": suspects,
                    "needs_review": 1,
                    "rejected_files": 0,
                },
                heat_scale={"lo": 0.0, "hi": 3.5},
                stage_seconds={"extract": 1.0},
            ),
            items=iter(items),
        )


@pytest.fixture
def dataset(api: TestClient) -> dict[str, Any]:
    return made(api, *[(f"part/{i:02}.png", png(i)) for i in range(N)])["dataset"]  # type: ignore[no-any-return]  # JSON


@pytest.fixture
def image_ids(api: TestClient, dataset: dict[str, Any]) -> list[str]:
    return [image["id"] for image in pages(api, f"/datasets/{dataset['id']}/images", limit=10)]


def pages(api: TestClient, path: str, **params: Any) -> Iterator[dict[str, Any]]:
    while True:
        answer = api.get(path, params=params)
        assert answer.status_code == 200, answer.text
        yield from answer.json()["items"]
        if (cursor := answer.json()["next_cursor"]) is None:
            return
        params["cursor"] = cursor


def test_the_ranked_split_has_all_the_contract_names(
    api: TestClient, sessions: sessionmaker[Session], dataset: dict[str, Any], image_ids: list[str]
) -> None:
    write_version(sessions, dataset["id"], image_ids, suspects=5)
    answer = api.get(f"/datasets/{dataset['id']}/purified", params={"limit": 2})
    body = answer.json()
    assert answer.status_code == 200
    assert body["version"] == 1
    assert body["options"]["seed"] == 3
    assert body["contamination"] == {"estimate": 0.1, "interval": [0.05, 0.2], "evidence": "weak"}
    assert body["counts"]["suspect"] == 5
    first = body["items"][0]
    assert first["image_id"] == image_ids[0]
    assert (first["name"], first["rank"], first["verdict"]) == ("part/00.png", 1, "suspect")
    assert first["signals"] == {"llbnad": 0.99, "funad": 0.25}
    assert first["review"] is None
    for url in ("thumbnail_url", "heatmap_url"):
        assert api.get(first[url]).status_code == 200


def test_pages_keep_to_their_version_while_a_newer_one_appears(
    api: TestClient, sessions: sessionmaker[Session], dataset: dict[str, Any], image_ids: list[str]
) -> None:
    write_version(sessions, dataset["id"], image_ids, suspects=5)
    path = f"/datasets/{dataset['id']}/purified"
    walk = pages(api, path, limit=4)
    seen = [next(walk)["image_id"] for _ in range(3)]
    assert write_version(sessions, dataset["id"], image_ids[::-1], suspects=1) == 2
    seen += [item["image_id"] for item in walk]
    assert seen == image_ids
    assert [i["image_id"] for i in pages(api, path, version=1, verdict="suspect", limit=3)] == image_ids[:5]
    assert [i["image_id"] for i in pages(api, path, limit=7)] == image_ids[::-1]


def test_a_cursor_of_another_version_or_list_is_refused(
    api: TestClient, sessions: sessionmaker[Session], dataset: dict[str, Any], image_ids: list[str]
) -> None:
    write_version(sessions, dataset["id"], image_ids, suspects=5)
    path = f"/datasets/{dataset['id']}/purified"
    cursor = api.get(path, params={"limit": 2}).json()["next_cursor"]
    assert is_problem(api.get(path, params={"cursor": cursor, "version": 2}), 422, "unprocessable")
    assert is_problem(api.get("/datasets", params={"cursor": cursor}), 400, "bad-cursor")
    assert is_problem(api.get(path, params={"cursor": "AAAA"}), 400, "bad-cursor")
    assert is_problem(api.get(path, params={"cursor": "\x00"}), 422, "validation-error")


def test_unknown_datasets_and_versions_are_not_found(
    api: TestClient, sessions: sessionmaker[Session], dataset: dict[str, Any], image_ids: list[str]
) -> None:
    write_version(sessions, dataset["id"], image_ids, suspects=5)
    for path in (
        "",
        "/images",
        "/receipts",
        "/purified",
        "/purified/histogram",
        "/purified/diff?from=1&to=2",
    ):
        assert is_problem(api.get(f"/datasets/{uuid4()}{path}"), 404, "not-found")
    for path in ("?version=2", "/histogram?version=2", "/diff?from=1&to=2"):
        assert is_problem(api.get(f"/datasets/{dataset['id']}/purified{path}"), 404, "not-found")
    assert is_problem(api.get(f"/datasets/{dataset['id']}/purified?version={2**31}"), 422, "validation-error")


def test_images_are_filtered_by_what_the_newest_version_says(
    api: TestClient, sessions: sessionmaker[Session], dataset: dict[str, Any], image_ids: list[str]
) -> None:
    write_version(sessions, dataset["id"], image_ids[:20], suspects=5)
    path = f"/datasets/{dataset['id']}/images"

    def found(**params: Any) -> list[str]:
        return [image["id"] for image in pages(api, path, limit=3, **params)]

    assert found() == image_ids
    assert found(status="ranked") == image_ids[:20]
    assert found(status="waiting") == image_ids[20:]
    assert found(verdict="suspect") == image_ids[:5]
    assert found(min_score=0.875) == image_ids[:12]
    assert found(q="T/1") == image_ids[10:20]
    assert found(q="%") == []
    assert found(review="keep") == []
    one = api.get(f"/images/{image_ids[0]}").json()
    assert (one["verdict"], one["score"], one["width"], one["format"]) == ("suspect", 0.99, 24, "png")
    assert api.get(f"/images/{image_ids[-1]}").json()["heatmap_url"] is None


@pytest.mark.parametrize(
    "query",
    [
        "q=%00",
        "min_score=nan",
        "min_score=inf",
        "limit=0",
        "limit=99999999999999999999",
        "verdict=bad",
        "cursor=%F0",
    ],
)
def test_odd_queries_are_problems_and_never_errors(
    api: TestClient, dataset: dict[str, Any], query: str
) -> None:
    answer = api.get(f"/datasets/{dataset['id']}/images?{query}")
    assert is_problem(answer, 422, "validation-error")
    assert all(set(error) == {"loc", "msg", "type"} for error in answer.json()["errors"])


def test_odd_but_legal_searches_find_nothing(api: TestClient, dataset: dict[str, Any]) -> None:
    for q in ("😀", "_", "\\", "'; DROP TABLE images; --", "\x07"):
        assert api.get(f"/datasets/{dataset['id']}/images", params={"q": q}).json()["items"] == []


def test_datasets_are_listed_newest_first(api: TestClient) -> None:
    ids = [made(api, (f"{i}.png", png(i)), name=f"set {i}")["dataset"]["id"] for i in range(5)]
    assert [d["id"] for d in pages(api, "/datasets", limit=2)] == ids[::-1]


def test_receipts_are_kept_and_paged(api: TestClient) -> None:
    body = made(api, ("a.png", png(1)), ("b.png", b"x"), ("c.png", png(1)), ("d.png", png(2)))
    path = f"/datasets/{body['dataset']['id']}/receipts"
    assert list(pages(api, path, limit=3)) == body["receipts"]
    assert [r["name"] for r in pages(api, path, status="rejected")] == ["b.png"]


def test_the_histogram_counts_every_image_once(
    api: TestClient, sessions: sessionmaker[Session], dataset: dict[str, Any], image_ids: list[str]
) -> None:
    write_version(sessions, dataset["id"], image_ids, suspects=5)
    body = api.get(f"/datasets/{dataset['id']}/purified/histogram", params={"bins": 7}).json()
    scores = [item["score"] for item in api.get(f"/datasets/{dataset['id']}/purified").json()["items"]]
    assert [b["count"] for b in body["bins"]] == np.histogram(scores, bins=7)[0].tolist()
    assert sum(b["count"] for b in body["bins"]) == N
    assert body["bins"][0]["lo"] == pytest.approx(0.75)
    assert body["bins"][-1]["hi"] == pytest.approx(0.99)
    assert body["cut"]["score"] == 0.9


def test_the_diff_names_who_changed_sides_and_who_came(
    api: TestClient, sessions: sessionmaker[Session], dataset: dict[str, Any], image_ids: list[str]
) -> None:
    a, b, c, d, e = image_ids[:5]
    write_version(sessions, dataset["id"], [a, b, c], suspects=2)
    write_version(sessions, dataset["id"], [d, c, b, a, e], suspects=3)
    body = api.get(f"/datasets/{dataset['id']}/purified/diff", params={"from": 1, "to": 2}).json()
    assert (body["newly_suspect"], body["newly_cleared"]) == ([c], [a])
    assert (body["added"], body["added_suspect"]) == ([d, e], [d])


def test_a_version_of_no_images_has_an_empty_histogram(
    api: TestClient, sessions: sessionmaker[Session], dataset: dict[str, Any]
) -> None:
    write_version(sessions, dataset["id"], [], suspects=0)
    body = api.get(f"/datasets/{dataset['id']}/purified/histogram").json()
    assert sum(b["count"] for b in body["bins"]) == 0


def test_deleting_a_dataset_takes_its_blobs_and_leaves_other_datasets(
    api: TestClient, settings: Settings
) -> None:
    doomed = made(api, ("z.zip", zipped(("a.png", png(1)))))
    kept = made(api, ("a.png", png(1)))
    path = f"/datasets/{doomed['dataset']['id']}"
    api.get(next(pages(api, f"{path}/images"))["thumbnail_url"])
    busy = api.delete(path)
    assert is_problem(busy, 409, "dataset-busy")
    assert busy.json()["job"]["id"] == doomed["job"]["id"]
    assert api.post(f"/jobs/{doomed['job']['id']}/cancel").status_code == 202
    assert api.delete(path).status_code == 204
    assert is_problem(api.get(path), 404, "not-found")
    assert is_problem(api.delete(path), 404, "not-found")
    blobs = [p for p in settings.blobs_dir.rglob("*") if p.is_file()]
    assert [p.parent.name for p in blobs] == [kept["dataset"]["id"]]


def test_a_dataset_with_versions_can_be_deleted(api: TestClient, sessions: sessionmaker[Session]) -> None:
    body = made(api, ("a.png", png(1)), data={"options": '{"purify": false}'})
    image = next(pages(api, f"/datasets/{body['dataset']['id']}/images"))
    write_version(sessions, body["dataset"]["id"], [image["id"]], suspects=1)
    with transaction(sessions) as session:
        jobs.request_cancel(session, UUID(api.get("/jobs").json()["items"][0]["id"]))
    assert api.delete(f"/datasets/{body['dataset']['id']}").status_code == 204
    assert is_problem(api.get(f"/images/{image['id']}"), 404, "not-found")


def test_uploads_to_a_dataset_that_is_not_there_are_refused(api: TestClient) -> None:
    answer = api.post(f"/datasets/{uuid4()}/images", files=[("files", ("a.png", png(1)))])
    assert is_problem(answer, 404, "not-found")
    assert upload(api, ("a.png", png(1))).status_code == 202
