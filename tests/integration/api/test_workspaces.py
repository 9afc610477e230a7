"""A key sees its own workspace and nothing of any other: by no id, in no list, on no page."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session, sessionmaker

from siftline.domain.jobs import JobKind, JobState
from siftline.store import jobs
from siftline.store.models import Artifact, Base, Dataset, Image, Job, PurifiedItem
from siftline.store.scope import Scope, scoped
from siftline.store.session import reading, transaction
from tests.integration.api.conftest import is_problem, made, png, upload
from tests.integration.api.reviewing import rank
from tests.integration.api.walking import bearer, make_key, routes_of
from tests.integration.detecting import add_detector

Ids = dict[str, str]
sqlite_only = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
OWNER = bearer("the owner's")
OLD = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture
def api(api_with: Callable[..., TestClient]) -> TestClient:
    return api_with(api_key=SecretStr("the owner's"))


@pytest.fixture
def admins(api: TestClient) -> dict[str, dict[str, str]]:
    """Headers of an admin of each of two workspaces."""
    return {w: bearer(make_key(api, "admin", "admin", w, headers=OWNER)) for w in ("ours", "theirs")}


@pytest.fixture
def theirs(
    api: TestClient, admins: dict[str, dict[str, str]], sessions: sessionmaker[Session], tmp_path: Path
) -> Ids:
    """Something of each kind, all of it in the workspace `theirs`."""
    files = [(f"{i}.png", png(i)) for i in range(12)]
    body = made(
        api, *files, ("bad.png", b"x"), data={"options": '{"purify": false}'}, headers=admins["theirs"]
    )
    dataset_id = UUID(body["dataset"]["id"])
    with reading(sessions) as session:
        images = session.scalars(select(Image.id).where(Image.dataset_id == dataset_id)).all()
    rank(sessions, dataset_id, images, suspects=2)
    detector = add_detector(sessions, tmp_path)
    with transaction(sessions) as session:
        session.execute(update(Dataset).where(Dataset.id == detector.dataset_id).values(workspace="theirs"))
        session.execute(update(PurifiedItem).values(explanation=EXPLANATION))
        job = jobs.create(session, dataset_id, JobKind.SCORE, {})
        jobs.request_cancel(session, job.id)  # so that its events end
        artifact = session.scalars(select(Artifact).where(Artifact.name == "calibration.json")).one()
    key = next(k for k in api.get("/keys", headers=admins["theirs"]).json())
    return {
        "dataset_id": str(dataset_id),
        "image_id": str(images[0]),
        "job_id": str(job.id),
        "detector_id": str(detector.id),
        "key_id": key["id"],
        "name": artifact.name,
    }


EXPLANATION = {
    "box": {"left": 0, "top": 0, "right": 1, "bottom": 1},
    "distance": 1.0,
    "typical_distance": 1.0,
    "neighbours": [],
}
QUERIES = {
    "/datasets/{dataset_id}/purified/diff": "?from=1&to=1",
    "/d/{dataset_id}/diff": "?from=1&to=1",
    "/datasets/{dataset_id}/export": "?format=csv",
    "/d/{dataset_id}/changes": "?since=0",
}


def body_of(path: str, ids: Ids) -> dict[str, Any]:
    """What a route that changes something has to be sent."""
    decision = {"image_id": ids["image_id"], "decision": "keep"}
    bodies: dict[str, dict[str, Any]] = {
        "/datasets/{dataset_id}/images": {"files": [("files", ("new.png", png(99)))]},
        "/datasets/{dataset_id}/reviews": {"json": {"decisions": [decision]}},
        "/datasets/{dataset_id}/misses": {"json": {"image_id": ids["image_id"]}},
        "/detectors/{detector_id}/score": {"content": png(1), "headers": {"Content-Type": "image/png"}},
    }
    return bodies.get(path, {})


def ask(api: TestClient, method: str, path: str, ids: Ids, key: dict[str, str]) -> Any:
    filled = path
    for name, value in ids.items():
        is_plot = name == "name" and "plots" in path
        filled = filled.replace(f"{{{name}}}", "histogram" if is_plot else value)
    more = body_of(path, ids)
    headers = key | more.pop("headers", {})
    return api.request(method, filled + QUERIES.get(path, ""), headers=headers, **more)


def with_ids(api: TestClient) -> list[tuple[str, str]]:
    """Reads first, deletions last, for the ids must be good until then."""
    order = ("HEAD", "GET", "POST", "DELETE")
    walked = [r for r in routes_of(api) if "_id}" in r[1]]
    assert len(walked) > 40
    return sorted(walked, key=lambda route: (order.index(route[0]), route[1]))


@sqlite_only
def test_no_route_finds_an_id_of_another_workspace(
    api: TestClient, admins: dict[str, dict[str, str]], theirs: Ids
) -> None:
    for method, path in with_ids(api):
        answer = ask(api, method, path, theirs, admins["ours"])
        assert answer.status_code == 404, (method, path, answer.text)
    for method, path in with_ids(api):
        answer = ask(api, method, path, theirs, admins["theirs"])
        assert answer.status_code < 500, (method, path, answer.text)
        # The same requests find them with the right key, so the 404 above were for the workspace alone.
        assert answer.status_code != 404, (method, path, answer.text)


@sqlite_only
def test_no_list_names_what_is_in_another_workspace(
    api: TestClient, admins: dict[str, dict[str, str]], theirs: Ids
) -> None:
    ours = admins["ours"]
    for path in ("/datasets", "/detectors", "/jobs"):
        for query in ("", f"?dataset_id={theirs['dataset_id']}"):
            assert api.get(path + query, headers=ours).json()["items"] == []
        assert api.get(path, headers=admins["theirs"]).json()["items"] != []
    assert [k["workspace"] for k in api.get("/keys", headers=ours).json()] == ["ours"]
    for page in ("/", "/j", "/m", f"/j?dataset_id={theirs['dataset_id']}"):
        shown = api.get(page, headers=ours | {"Accept": "text/html"})
        assert shown.status_code == 200
        assert not [value for name, value in theirs.items() if name != "name" and value in shown.text
                    and value not in page]  # fmt: skip


@sqlite_only
def test_nothing_is_made_of_what_is_in_another_workspace(
    api: TestClient, admins: dict[str, dict[str, str]], theirs: Ids
) -> None:
    new = {"dataset_id": theirs["dataset_id"], "method": "funad"}
    assert is_problem(api.post("/detectors", json=new, headers=admins["ours"]), 404, "not-found")
    assert api.post("/detectors", json=new, headers=admins["theirs"]).status_code == 202


@sqlite_only
def test_a_detector_that_another_workspace_has_in_memory_is_not_found(
    api: TestClient, admins: dict[str, dict[str, str]], theirs: Ids
) -> None:
    path = "/detectors/{detector_id}/score"
    assert ask(api, "POST", path, theirs, admins["theirs"]).status_code == 200
    assert is_problem(ask(api, "POST", path, theirs, admins["ours"]), 404, "not-found")
    assert is_problem(ask(api, "POST", path, theirs, OWNER), 404, "not-found")


def test_an_idempotency_key_is_its_workspace_s_own(
    api: TestClient, admins: dict[str, dict[str, str]]
) -> None:
    once = {"Idempotency-Key": "the-same"}
    ids = set()
    for key in (*admins.values(), OWNER):
        first, again = (upload(api, ("a.png", png(1)), headers=key | once) for _ in range(2))
        assert first.json()["dataset"]["id"] == again.json()["dataset"]["id"]
        assert again.headers["idempotency-replayed"] == "true"
        ids.add(first.json()["dataset"]["id"])
    assert len(ids) == 3


@sqlite_only
def test_the_owner_makes_keys_everywhere_and_an_admin_in_the_own_workspace_only(
    api: TestClient, admins: dict[str, dict[str, str]]
) -> None:
    new = {"name": "x", "role": "viewer", "workspace": "theirs"}
    assert is_problem(api.post("/keys", json=new, headers=admins["ours"]), 403, "forbidden")
    made_here = api.post("/keys", json={"name": "x", "role": "viewer"}, headers=admins["ours"])
    assert made_here.json()["workspace"] == "ours"
    assert api.post("/keys", json=new, headers=OWNER).status_code == 201  # a name is its workspace's own, too
    assert {k["workspace"] for k in api.get("/keys", headers=OWNER).json()} == {"ours", "theirs"}
    for odd in ("", "Upper", "../up", "x" * 65, "a b"):
        answer = api.post("/keys", json=new | {"workspace": odd}, headers=OWNER)
        assert is_problem(answer, 422, "validation-error")


def test_what_was_there_before_workspaces_is_in_the_default_one(
    api: TestClient, sessions: sessionmaker[Session], admins: dict[str, dict[str, str]]
) -> None:
    with transaction(sessions) as session:  # as a row of the version before looks
        old = {"id": UUID(int=1), "name": "old", "created_at": OLD, "options": {}}
        session.connection().execute(insert(Base.metadata.tables["datasets"]), [old])
    assert api.get(f"/datasets/{UUID(int=1)}", headers=OWNER).json()["name"] == "old"
    assert is_problem(api.get(f"/datasets/{UUID(int=1)}", headers=admins["ours"]), 404, "not-found")


def test_a_scoped_session_changes_no_row_of_another_workspace(
    sessions: sessionmaker[Session], theirs: Ids
) -> None:
    ours = scoped(sessions, Scope("ours"))
    with transaction(ours) as session:
        session.execute(update(Job).values(state=JobState.FAILED))
        session.execute(update(Image).values(name="changed"))
    with reading(sessions) as session:
        assert JobState.FAILED not in set(session.scalars(select(Job.state)))
        assert "changed" not in set(session.scalars(select(Image.name)))
        assert session.scalars(select(Image.id)).all()
    with reading(ours) as session:
        assert not session.scalars(select(Image.id)).all()
