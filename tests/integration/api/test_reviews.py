"""People decide: nothing they say is lost, whoever else is at work, and everything can be taken back."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from siftline.store.models import Image, Job, ReviewDecision
from siftline.store.session import reading
from tests.integration.api.conftest import is_problem
from tests.integration.api.reviewing import add_images, people, rank

N, SUSPECTS = 40, 10


@pytest.fixture
def ids(sessions: sessionmaker[Session]) -> list[str]:
    self_made = add_images(sessions, N)
    rank(sessions, *self_made, suspects=SUSPECTS)
    return [str(image_id) for image_id in self_made[1]]


@pytest.fixture
def path(ids: list[str], sessions: sessionmaker[Session], api: TestClient) -> str:
    people(api)
    with reading(sessions) as session:
        image = session.get(Image, UUID(ids[0]))
    assert image is not None
    return f"/datasets/{image.dataset_id}"


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


def test_a_decision_says_who_and_when_and_outranks_the_machine(
    api: TestClient, path: str, ids: list[str]
) -> None:
    answer = decide(api, path, "ada", (ids[0], "keep"), (ids[20], "reject"), (ids[21], "reject"))
    assert answer.status_code == 201
    batch = answer.json()
    assert (batch["by"], batch["images"], batch["decision"], batch["revision"]) == ("ada", 3, None, 1)
    assert answer.headers["etag"] == '"1"'
    assert said(api, path) == {
        ids[0]: ("keep", "ada"),
        ids[20]: ("reject", "ada"),
        ids[21]: ("reject", "ada"),
    }
    body = api.get(f"{path}/purified", params={"limit": 1}).json()
    assert body["items"][0]["verdict"] == "suspect"
    assert (body["counts"]["clean"], body["counts"]["suspect"]) == (30, 10)
    assert body["reviewed"] == {"keep": 1, "reject": 2, "clean": 29, "suspect": 11}
    assert api.get(f"/images/{ids[0]}").json()["review"] == "keep"


def test_undo_brings_back_what_stood_before_and_whose_it_was(
    api: TestClient, path: str, ids: list[str]
) -> None:
    decide(api, path, "ada", (ids[0], "keep"))
    decide(api, path, "bob", (ids[0], "reject"), (ids[1], "reject"))
    answer = undo(api, path, "bob")
    assert answer.status_code == 201
    assert (answer.json()["images"], answer.json()["skipped"]) == (2, 0)
    assert said(api, path) == {ids[0]: ("keep", "ada")}
    assert undo(api, path, "ada").json()["skipped"] == 0
    assert said(api, path) == {}
    assert is_problem(undo(api, path, "ada"), 409, "nothing-to-undo")


def test_pressing_undo_twice_takes_back_two_batches_and_redo_does_them_again(
    api: TestClient, path: str, ids: list[str]
) -> None:
    decide(api, path, "ada", (ids[0], "keep"))
    second = decide(api, path, "ada", (ids[0], "reject")).json()
    undoing = undo(api, path, "ada").json()
    assert undoing["undoes"] == second["id"]
    assert said(api, path) == {ids[0]: ("keep", "ada")}
    undo(api, path, "ada")
    assert said(api, path) == {}
    redone = undo(api, path, "bob", undoing["id"]).json()
    assert (redone["images"], redone["skipped"]) == (0, 1)  # the first batch, below it, is taken back
    first_undone = api.get(f"{path}/reviews").json()["items"][1]
    undo(api, path, "bob", first_undone["id"])
    assert said(api, path) == {ids[0]: ("keep", "ada")}


def test_a_batch_done_again_can_be_taken_back_again(api: TestClient, path: str, ids: list[str]) -> None:
    batch = decide(api, path, "ada", (ids[0], "keep")).json()
    for _ in range(2):
        undoing = undo(api, path, "ada", batch["id"]).json()
        assert said(api, path) == {}
        assert is_problem(undo(api, path, "ada", batch["id"]), 409, "already-undone")
        redoing = undo(api, path, "ada", undoing["id"]).json()
        assert said(api, path) == {ids[0]: ("keep", "ada")}
    assert undo(api, path, "ada", redoing["id"]).json()["undoes"] == batch["id"]
    assert said(api, path) == {}
    assert is_problem(undo(api, path, "ada", str(uuid4())), 404, "not-found")


def test_undo_leaves_alone_and_names_what_somebody_decided_since(
    api: TestClient, path: str, ids: list[str]
) -> None:
    batch = decide_by(api, path, "ada", "reject", verdict="suspect").json()
    assert batch["images"] == SUSPECTS
    decide(api, path, "bob", (ids[3], "keep"))
    decide(api, path, "bob", (ids[4], "clear"))
    answer = undo(api, path, "ada").json()
    assert (answer["images"], answer["skipped"]) == (8, 2)
    assert answer["skipped_images"] == [ids[3], ids[4]]
    assert said(api, path) == {ids[3]: ("keep", "bob")}


def test_the_history_only_grows_and_says_what_was_before(
    api: TestClient, path: str, ids: list[str], sessions: sessionmaker[Session]
) -> None:
    decide(api, path, "ada", (ids[0], "keep"))
    decide(api, path, "bob", (ids[0], "reject"))
    undo(api, path, "bob")
    decide(api, path, "ada", (ids[0], "clear"))
    answer = api.get(f"{path}/reviews", params={"limit": 3})
    assert answer.headers["etag"] == '"4"'
    newest = answer.json()
    older = api.get(f"{path}/reviews", params={"cursor": newest["next_cursor"]}).json()
    assert [(b["revision"], b["by"]) for b in newest["items"] + older["items"]] == [
        (4, "ada"),
        (3, "bob"),
        (2, "bob"),
        (1, "ada"),
    ]
    assert newest["items"][2]["undone_by"] == newest["items"][1]["id"]
    with reading(sessions) as session:
        rows = session.execute(
            select(ReviewDecision.decision, ReviewDecision.previous).order_by(ReviewDecision.batch_id)
        ).all()
    assert [tuple(row) for row in rows] == [
        ("keep", None),
        ("reject", "keep"),
        ("keep", "reject"),
        ("clear", "keep"),
    ]
    assert said(api, path) == {}


def test_who_looked_before_somebody_else_decided_on_the_same_image_is_refused(
    api: TestClient, path: str, ids: list[str]
) -> None:
    seen = api.get(f"{path}/reviews").headers["etag"]
    assert seen == '"0"'
    first = decide(api, path, "ada", (ids[0], "keep"), (ids[1], "keep"), **{"If-Match": seen})
    again = decide(api, path, "ada", (ids[0], "reject"), **{"If-Match": seen})
    assert (first.status_code, again.status_code) == (201, 201)  # nobody is in their own way
    other = decide(api, path, "bob", (ids[2], "keep"), **{"If-Match": seen})
    assert other.status_code == 201  # another image
    refused = decide(api, path, "bob", (ids[3], "keep"), (ids[1], "reject"), **{"If-Match": seen})
    assert is_problem(refused, 412, "precondition-failed")
    assert [(e["image_id"], e["decision"], e["by"]) for e in refused.json()["errors"]] == [
        (ids[1], "keep", "ada")
    ]
    assert ids[3] not in said(api, path)
    bulk = {"filter": {"verdict": "suspect"}, "decision": "reject"}
    answer = api.post(f"{path}/reviews", json=bulk, headers={"X-Who": "bob", "If-Match": seen})
    assert is_problem(answer, 412, "precondition-failed")
    assert {e["image_id"] for e in answer.json()["errors"]} == {ids[0], ids[1]}
    newest = api.get(f"{path}/reviews").headers["etag"]
    answer = api.post(f"{path}/reviews", json=bulk, headers={"X-Who": "bob", "If-Match": newest})
    assert answer.json()["images"] == SUSPECTS


def test_taking_back_counts_as_deciding_for_whoever_looked_before(
    api: TestClient, path: str, ids: list[str]
) -> None:
    decide(api, path, "ada", (ids[0], "keep"))
    seen = api.get(f"{path}/reviews").headers["etag"]
    undo(api, path, "ada")
    refused = decide(api, path, "bob", (ids[0], "keep"), **{"If-Match": seen})
    assert is_problem(refused, 412, "precondition-failed")


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
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
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


def test_two_reviewers_at_once_lose_nothing(
    api: TestClient, path: str, ids: list[str], sessions: sessionmaker[Session]
) -> None:
    """Each image is decided by both, batch by batch; every batch has a number and every word is on record."""

    def work(who: str, word: str, images: list[str]) -> list[int]:
        answers = [decide(api, path, who, *[(i, word) for i in images[k : k + 5]]) for k in range(0, N, 5)]
        return [answer.json()["revision"] for answer in answers]

    with ThreadPoolExecutor(2) as pool:
        ada = pool.submit(work, "ada", "keep", ids)
        bob = pool.submit(work, "bob", "reject", ids[::-1])
    revisions = ada.result() + bob.result()
    assert sorted(revisions) == list(range(1, 17))
    assert api.get(f"{path}/reviews").headers["etag"] == '"16"'
    with reading(sessions) as session:
        assert session.scalar(select(func.count()).select_from(ReviewDecision)) == 2 * N
        newest = {
            str(image_id): (word, revision)
            for image_id, word, revision in session.execute(
                select(ReviewDecision.image_id, ReviewDecision.decision, ReviewDecision.revision).order_by(
                    ReviewDecision.revision
                )
            )
        }
        standing = {
            str(image.id): (image.review, image.review_revision) for image in session.scalars(select(Image))
        }
    assert standing == newest


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
