"""The log of changes, rotation of keys, and how often a key may ask."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import delete, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker

from siftline.access.gate import COOKIE
from siftline.access.rate import Rate
from siftline.store import keys as stored_keys
from siftline.store.models import ApiKey, AuditEntry
from siftline.store.session import now, reading, transaction
from tests.integration.api.conftest import is_problem, made, png
from tests.integration.api.walking import bearer, make_key

Start = Callable[..., TestClient]
sqlite_only = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
OWNER = bearer("the owner's")


@pytest.fixture
def api(api_with: Start) -> TestClient:
    return api_with(api_key=SecretStr("the owner's"))


def log_of(api: TestClient, key: dict[str, str] = OWNER) -> list[dict[str, Any]]:
    """Oldest first."""
    answer = api.get("/audit", headers=key)
    assert answer.status_code == 200, answer.text
    return list(reversed(answer.json()["items"]))


def test_every_change_is_logged_with_who_what_when_and_where_from(api: TestClient) -> None:
    anna = bearer(make_key(api, "anna", "admin", headers=OWNER))
    once = {"Idempotency-Key": "k", "X-Request-ID": "find-me"}
    body = made(api, ("a.png", png(1)), headers=anna | once)
    made(api, ("a.png", png(1)), headers=anna | once)  # a replay changes nothing
    dataset, job = body["dataset"]["id"], body["job"]["id"]
    api.get(f"/datasets/{dataset}", headers=anna)
    image = api.get(f"/datasets/{dataset}/images", headers=anna).json()["items"][0]["id"]
    decisions = {"decisions": [{"image_id": image, "decision": "keep"}]}
    batch = api.post(f"/datasets/{dataset}/reviews", json=decisions, headers=anna).json()["id"]
    assert api.post(f"/jobs/{job}/cancel", headers=anna).status_code == 202
    assert is_problem(api.post(f"/jobs/{job}/cancel", headers=anna), 409, "job-state-conflict")
    assert api.delete(f"/datasets/{dataset}", headers=anna).status_code == 204

    log = log_of(api)
    assert [(e["who"], e["action"], e["objects"]) for e in log[1:]] == [
        ("anna", "POST /datasets", [f"dataset:{dataset}", f"job:{job}"]),
        ("anna", "POST /datasets/{dataset_id}/reviews", [f"dataset:{dataset}", f"reviews:{batch}"]),
        ("anna", "POST /jobs/{job_id}/cancel", [f"job:{job}"]),
        ("anna", "DELETE /datasets/{dataset_id}", [f"dataset:{dataset}"]),
    ]
    assert (log[0]["who"], log[0]["action"], log[0]["role"]) == ("settings-key", "POST /keys", "admin")
    assert log[1]["request_id"] == "find-me"
    assert {e["client"] for e in log} == {"127.0.0.1"}
    assert [e["at"] for e in log] == sorted(e["at"] for e in log)


def test_a_change_that_is_rolled_back_leaves_no_entry_and_an_entry_that_fails_undoes_the_change(
    api: TestClient, sessions: sessionmaker[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = log_of(api)
    new = {"name": "x", "role": "viewer"}
    monkeypatch.setattr("siftline.services.keys.describe", lambda key: 1 / 0)
    assert api.post("/keys", json=new, headers=OWNER).status_code == 500
    monkeypatch.undo()
    assert log_of(api) == before
    monkeypatch.setattr("siftline.store.audit.uuid7", lambda: 1 / 0)
    assert api.post("/keys", json=new, headers=OWNER).status_code == 500
    with reading(sessions) as session:
        assert not session.scalars(select(ApiKey)).all()


def test_no_entry_can_be_changed_or_deleted(api: TestClient, sessions: sessionmaker[Session]) -> None:
    make_key(api, "anna", "admin", headers=OWNER)
    for harm in (update(AuditEntry).values(who="nobody"), delete(AuditEntry)):
        with pytest.raises(DBAPIError, match="append-only"), transaction(sessions) as session:
            session.execute(harm)
    assert [e["who"] for e in log_of(api)] == ["settings-key"]


@sqlite_only
def test_the_log_is_paged_and_an_admin_reads_that_of_the_own_workspace(api: TestClient) -> None:
    ours, theirs = (bearer(make_key(api, "admin", "admin", w, headers=OWNER)) for w in ("ours", "theirs"))
    viewer = bearer(make_key(api, "v", "viewer", headers=ours))
    assert is_problem(api.get("/audit", headers=viewer), 403, "forbidden")
    # What the owner did to a workspace's keys stands in that workspace's log.
    assert [(e["who"], e["workspace"]) for e in log_of(api, ours)] == [
        ("settings-key", "ours"),
        ("admin", "ours"),
    ]
    assert [(e["who"], e["action"]) for e in log_of(api, theirs)] == [("settings-key", "POST /keys")]
    whole = log_of(api)
    first = api.get("/audit?limit=2", headers=OWNER).json()
    rest = api.get(f"/audit?limit=2&cursor={first['next_cursor']}", headers=OWNER).json()
    assert list(reversed(first["items"] + rest["items"])) == whole
    assert (len(whole), rest["next_cursor"]) == (3, None)


def rotate(api: TestClient, name: str, **how: Any) -> Any:
    key_id = next(k["id"] for k in api.get("/keys", headers=OWNER).json() if k["name"] == name)
    return api.post(f"/keys/{key_id}/rotate", headers=OWNER, **how)


def test_a_rotated_key_ends_at_once_or_after_its_grace(
    api: TestClient, sessions: sessionmaker[Session]
) -> None:
    first = make_key(api, "ci", "operator", headers=OWNER)
    second = rotate(api, "ci").json()["key"]
    assert is_problem(api.get("/datasets", headers=bearer(first)), 401, "unauthorized")
    assert api.get("/datasets", headers=bearer(second)).status_code == 200
    third = rotate(api, "ci", json={"grace_s": 3600}).json()
    for key in (second, third["key"]):
        assert api.get("/datasets", headers=bearer(key)).status_code == 200
    assert third["name"] == "ci"
    with transaction(sessions) as session:  # the hour is over
        session.execute(update(ApiKey).values(previous_until=now(session)))
    fourth = rotate(api, "ci", json={"grace_s": 3600}).json()["key"]
    assert is_problem(api.get("/datasets", headers=bearer(second)), 401, "unauthorized")
    assert api.get("/datasets", headers=bearer(fourth)).status_code == 200
    with reading(sessions) as session:
        row = session.scalars(select(ApiKey)).one()
        assert not [key for key in (first, second, third["key"], fourth) if key in str(vars(row))]


@sqlite_only
def test_a_rotation_ends_the_sessions_that_were_opened_with_the_old_key(api: TestClient) -> None:
    key = make_key(api, "anna", "viewer", headers=OWNER)
    api.post("/signin", data={"key": key}, follow_redirects=False)
    assert api.get("/datasets").status_code == 200
    rotate(api, "anna", json={"grace_s": 3600})
    assert api.get("/datasets").status_code == 200
    new = rotate(api, "anna").json()["key"]
    assert is_problem(api.get("/datasets"), 401, "unauthorized")
    api.cookies.delete(COOKIE)
    api.post("/signin", data={"key": new}, follow_redirects=False)
    assert api.get("/datasets").status_code == 200


@sqlite_only
def test_what_cannot_be_rotated_is_told_and_a_grace_has_bounds(
    api: TestClient, sessions: sessionmaker[Session]
) -> None:
    make_key(api, "ci", "admin", headers=OWNER)
    for odd in (-1, 10**9, "60", True):
        assert is_problem(rotate(api, "ci", json={"grace_s": odd}), 422, "validation-error")
    with transaction(sessions) as session:
        stored_keys.revoke(session, session.scalars(select(ApiKey.id)).one())
    assert is_problem(rotate(api, "ci"), 409, "conflict")


@sqlite_only
def test_a_key_that_asks_too_often_is_told_when_to_come_back_and_others_are_served(api_with: Start) -> None:
    api = api_with(api_key=SecretStr("the owner's"), rate_per_s=0.01, rate_burst=3)
    busy = bearer(make_key(api, "busy", "viewer", headers=OWNER))
    assert [api.get("/datasets", headers=busy).status_code for _ in range(4)] == [200, 200, 200, 429]
    answer = api.get("/datasets", headers=busy)
    assert is_problem(answer, 429, "too-many-requests")
    assert 1 <= int(answer.headers["retry-after"]) <= 100
    assert api.get("/datasets", headers=OWNER).status_code == 200
    assert api.get("/healthz").status_code == 200
    assert is_problem(api.get("/datasets", headers=bearer("sl_wrong")), 401, "unauthorized")


def test_a_bucket_gives_its_burst_then_its_rate() -> None:
    at = 0.0
    rate = Rate(per_s=2, burst=3, clock=lambda: at)
    assert [rate.take("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert rate.take("b") == 0
    at = 0.5
    assert [rate.take("a") for _ in range(2)] == [0, 0.5]
    at = 100.0
    assert [rate.take("a") for _ in range(4)] == [0, 0, 0, 0.5]


def test_keys_that_ask_no_more_are_forgotten() -> None:
    at = 0.0
    rate = Rate(per_s=1, burst=1, clock=lambda: at)
    for who in range(25_000):
        at += 1.0
        assert rate.take(who) == 0
    assert len(rate._full_at) <= 10_001
