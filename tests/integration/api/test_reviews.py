"""People decide: nothing they say is lost, whoever else is at work, and everything can be taken back."""

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from siftline.store.models import Image, ReviewDecision
from siftline.store.session import reading
from tests.integration.api.conftest import is_problem
from tests.integration.api.reviewing import (
    decide,
    decide_by,
    path_of,
    people,
    ranked,
    said,
    undo,
)

N, SUSPECTS = 40, 10


@pytest.fixture
def ids(sessions: sessionmaker[Session]) -> list[str]:
    return ranked(sessions, N, suspects=SUSPECTS)


@pytest.fixture
def path(ids: list[str], sessions: sessionmaker[Session], api: TestClient) -> str:
    people(api)
    return path_of(sessions, ids[0])


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


def test_undo_passes_over_a_decision_that_met_no_image(api: TestClient, path: str, ids: list[str]) -> None:
    first = decide(api, path, "ada", (ids[0], "keep")).json()
    assert decide_by(api, path, "ada", "reject", name_contains="of no image").json()["images"] == 0
    assert undo(api, path, "ada").json()["undoes"] == first["id"]
    assert said(api, path) == {}
    assert is_problem(undo(api, path, "ada"), 409, "nothing-to-undo")


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
