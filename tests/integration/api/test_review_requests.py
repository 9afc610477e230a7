"""What can be asked of reviews: by name or by filter, once or twice, and what makes no sense."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, text, update
from sqlalchemy.orm import Session, sessionmaker

from siftline.store.models import Image, Job, PurifiedItem
from siftline.store.selection import Filter, conditions
from siftline.store.session import reading, transaction
from tests.integration.api.conftest import is_problem
from tests.integration.api.reviewing import (
    add_images,
    decide,
    decide_by,
    path_of,
    people,
    rank,
    ranked,
    said,
    undo,
)

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
N, SUSPECTS = 40, 10


@pytest.fixture
def ids(sessions: sessionmaker[Session]) -> list[str]:
    return ranked(sessions, N, suspects=SUSPECTS)


@pytest.fixture
def path(ids: list[str], sessions: sessionmaker[Session], api: TestClient) -> str:
    people(api)
    return path_of(sessions, ids[0])


@SQLITE
@pytest.mark.parametrize("tag", ["3", 'W/"3"', '"x"', '"1", "2"', '"99999999999999999999"'])
def test_an_etag_that_was_never_given_out_is_a_problem(
    api: TestClient, path: str, ids: list[str], tag: str
) -> None:
    answer = decide(api, path, "ada", (ids[0], "keep"), **{"If-Match": tag})
    assert is_problem(answer, 422, "validation-error")


def test_one_unknown_image_and_nothing_is_applied(
    api: TestClient, path: str, ids: list[str], sessions: sessionmaker[Session]
) -> None:
    elsewhere = str(add_images(sessions, 1)[1][0])
    answer = decide(api, path, "ada", (ids[0], "keep"), (elsewhere, "keep"))
    assert is_problem(answer, 422, "unprocessable")
    assert [e["msg"] for e in answer.json()["errors"]] == [f"no image {elsewhere}"]
    assert said(api, path) == {}
    assert api.get(f"{path}/reviews").json()["items"] == []
    assert is_problem(decide(api, f"/datasets/{uuid4()}", "ada", (ids[0], "keep")), 404, "not-found")


@SQLITE
@pytest.mark.parametrize(
    "body",
    [
        {},
        {"decisions": []},
        {"decision": "keep"},
        {"filter": {}},
        {"filter": {}, "decision": "maybe"},
        {"filter": {"min_score": "0.5"}, "decision": "keep"},
        {"filter": {"cluster": 2**31}, "decision": "keep"},
        {"filter": {"colour": "red"}, "decision": "keep"},
        {"decisions": [{"image_id": "x", "decision": "keep"}]},
    ],
)
def test_bodies_that_make_no_sense_are_problems(api: TestClient, path: str, body: Any) -> None:
    assert is_problem(api.post(f"{path}/reviews", json=body), 422, "validation-error")


def test_the_last_of_two_words_on_one_image_counts(api: TestClient, path: str, ids: list[str]) -> None:
    answer = decide(api, path, "ada", (ids[0], "keep"), (ids[0], "reject"))
    assert (answer.json()["images"], answer.json()["decision"]) == (1, "reject")
    assert said(api, path) == {ids[0]: ("reject", "ada")}


def test_a_decision_sent_twice_under_one_key_is_one_decision(
    api: TestClient, path: str, ids: list[str]
) -> None:
    key = {"Idempotency-Key": uuid4().hex}
    first = decide(api, path, "ada", (ids[0], "keep"), **key)
    again = decide(api, path, "ada", (ids[0], "keep"), **key)
    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["etag"] == first.headers["etag"]
    assert len(api.get(f"{path}/reviews").json()["items"]) == 1
    assert is_problem(decide(api, path, "ada", (ids[1], "keep"), **key), 422, "idempotency-key-reused")


@pytest.mark.parametrize(
    ("selection", "chosen"),
    [
        ({"verdict": "suspect"}, range(10)),
        ({"verdict": "clean", "min_score": 0.7}, range(10, 13)),
        ({"max_score": 0.06}, range(38, 40)),
        ({"needs_review": True}, range(9, 12)),
        ({"needs_review": False, "verdict": "suspect"}, range(9)),
        ({"review": "keep"}, [5]),
        ({"review": "any"}, [5, 6]),
        ({"review": "none", "verdict": "suspect"}, [0, 1, 2, 3, 4, 7, 8, 9]),
        ({"name_contains": "T/0002"}, range(20, 30)),
        ({"name_contains": "%"}, []),
        ({"cluster": 3}, []),
        ({"version": 1}, range(40)),
    ],
)
@SQLITE
def test_a_filter_chooses_the_same_images_for_a_list_and_for_a_decision(
    api: TestClient, path: str, ids: list[str], selection: dict[str, Any], chosen: Any
) -> None:
    decide(api, path, "ada", (ids[5], "keep"), (ids[6], "reject"))
    query = {{"name_contains": "q"}.get(k, k): v for k, v in selection.items()}
    listed = api.get(f"{path}/purified", params=query | {"limit": 1000}).json()["items"]
    assert [item["image_id"] for item in listed] == [ids[i] for i in chosen]
    answer = decide_by(api, path, "bob", "reject", **selection)
    assert answer.json()["images"] == len(chosen)
    assert {i for i, (_, who) in said(api, path).items() if who == "bob"} == {ids[i] for i in chosen}


def test_a_filter_on_a_version_that_is_not_there_is_a_problem(
    api: TestClient, path: str, sessions: sessionmaker[Session]
) -> None:
    assert is_problem(decide_by(api, path, "ada", "keep", version=7), 404, "not-found")
    unranked = f"/datasets/{add_images(sessions, 1)[0]}"
    assert is_problem(decide_by(api, unranked, "ada", "keep"), 409, "purification-not-ready")


def test_the_most_disputed_come_first_page_by_page(api: TestClient, path: str, ids: list[str]) -> None:
    seen: list[str] = []
    params: dict[str, Any] = {"order": "disputed", "limit": 7}
    while True:
        page = api.get(f"{path}/purified", params=params).json()
        seen += [item["image_id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    expected = sorted(range(N), key=lambda i: (abs(i - SUSPECTS), i))
    assert seen == [ids[i] for i in expected]
    rank_cursor = api.get(f"{path}/purified", params={"limit": 1}).json()["next_cursor"]
    mixed = api.get(f"{path}/purified", params={"order": "disputed", "cursor": rank_cursor})
    assert is_problem(mixed, 400, "bad-cursor")


def test_thousands_are_decided_by_one_filter_and_taken_back(
    api: TestClient, sessions: sessionmaker[Session]
) -> None:
    people(api)
    dataset_id, many = add_images(sessions, 5000)
    rank(sessions, dataset_id, many, suspects=500)
    path = f"/datasets/{dataset_id}"
    assert decide_by(api, path, "ada", "keep", verdict="clean").json()["images"] == 4500
    assert decide(api, path, "bob", *[(str(i), "reject") for i in many[400:1600]]).json()["images"] == 1200
    reviewed = api.get(f"{path}/purified", params={"limit": 1}).json()["reviewed"]
    assert reviewed == {"keep": 3400, "reject": 1200, "clean": 3400 + 0, "suspect": 1600}
    answer = undo(api, path, "ada").json()
    assert (answer["images"], answer["skipped"], len(answer["skipped_images"])) == (3400, 1100, 1000)
    assert len(said(api, path)) == 1000  # the page is full


def test_a_miss_is_rejected_and_its_like_are_looked_for(
    api: TestClient, path: str, ids: list[str], sessions: sessionmaker[Session]
) -> None:
    answer = api.post(f"{path}/misses", json={"image_id": ids[30]}, headers={"X-Who": "ada"})
    assert answer.status_code == 202
    assert answer.json()["kind"] == "similar"
    assert answer.headers["location"] == f"/jobs/{answer.json()['id']}"
    assert said(api, path) == {ids[30]: ("reject", "ada")}
    with reading(sessions) as session:
        job = session.get(Job, UUID(answer.json()["id"]))
        assert job is not None
        assert job.params == {"image_id": ids[30]}
    assert is_problem(api.post(f"{path}/misses", json={"image_id": str(uuid4())}), 404, "not-found")


def test_a_recut_is_asked_of_the_newest_version(
    api: TestClient, path: str, ids: list[str], sessions: sessionmaker[Session]
) -> None:
    plain = api.post(f"{path}/recut")
    assert plain.status_code == 202
    moved = api.post(f"{path}/recut", json={"cut_score": 0.4})
    with reading(sessions) as session:
        params = [session.get_one(Job, UUID(a.json()["id"])).params for a in (plain, moved)]
    assert params == [{"version": 1}, {"version": 1, "cut_score": 0.4}]
    both = api.post(f"{path}/recut", json={"cut_score": 0.4, "cost_ratio": 2})
    assert is_problem(both, 422, "unprocessable")
    unranked = f"/datasets/{add_images(sessions, 1)[0]}"
    assert is_problem(api.post(f"{unranked}/recut"), 409, "purification-not-ready")


@SQLITE
@pytest.mark.parametrize(
    "wanted", [Filter(), Filter(verdict="suspect"), Filter(review="any"), Filter(min_score=0.9)]
)
def test_no_condition_reads_a_whole_table(sessions: sessionmaker[Session], path: str, wanted: Filter) -> None:
    with reading(sessions) as session:
        query = (
            select(PurifiedItem.rank)
            .join(Image, Image.id == PurifiedItem.image_id)
            .where(PurifiedItem.purification_id == uuid4(), *conditions(wanted))
            .order_by(PurifiedItem.rank)
        ).compile(session.get_bind(), compile_kwargs={"literal_binds": True})
        plan = [row[-1] for row in session.execute(text(f"EXPLAIN QUERY PLAN {query}"))]
    assert plan
    assert not [step for step in plan if step.startswith("SCAN")], plan


def test_an_explanation_is_given_as_the_version_kept_it(
    api: TestClient, path: str, ids: list[str], sessions: sessionmaker[Session]
) -> None:
    box = {"left": 0.0, "top": 0.5, "right": 0.25, "bottom": 1.0}
    kept = {
        "image_id": ids[0],
        "version": 1,
        "box": box,
        "distance": 3.5,
        "typical_distance": 1.25,
        "neighbours": [{"image_id": ids[7], "box": box, "distance": 2.0}],
    }
    with transaction(sessions) as session:
        session.execute(update(PurifiedItem).where(PurifiedItem.rank == 1).values(explanation=kept))
    assert api.get(f"/images/{ids[0]}/explanation").json() == kept
    assert is_problem(api.get(f"/images/{ids[1]}/explanation"), 404, "not-found")
    assert is_problem(api.get(f"/images/{ids[0]}/explanation?version=2"), 404, "not-found")
