"""Keys, roles, signing in: no route without a rule, no key in the database, no door left open."""

import re
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from siftline.access import keyring
from siftline.access.gate import COOKIE, is_open
from siftline.access.principal import Role
from siftline.access.rules import RULES, needed
from siftline.domain.keys import hash_of
from siftline.store.models import ApiKey
from siftline.store.session import reading
from tests.integration.api.conftest import is_problem, made, png, upload
from tests.integration.api.walking import ROLES, bearer, make_key, routes_of

NOBODY = "0190a0a0-0000-7000-8000-000000000000"
sqlite_only = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def keys(api: TestClient) -> dict[str, str]:
    """One key of each role, the admin's first."""
    admin = make_key(api, "the admin", "admin")
    made_by_admin = {role: make_key(api, f"a {role}", role, headers=bearer(admin)) for role in ROLES[:3]}
    return made_by_admin | {"admin": admin}


@sqlite_only
def test_every_route_that_changes_something_has_a_rule_and_every_rule_a_route(api: TestClient) -> None:
    walked = routes_of(api)
    assert len(walked) > 50
    changing = {(m, p) for m, p in walked if m not in ("GET", "HEAD") and not is_open(p)}
    assert changing - set(RULES) == set()
    assert set(RULES) - walked == set()


@sqlite_only
def test_every_route_asks_for_a_key_and_for_the_role_of_its_rule(
    api: TestClient, keys: dict[str, str]
) -> None:
    for method, path in routes_of(api):
        filled = re.sub(r"{\w+_id}", NOBODY, path).replace("{name}", "histogram")
        if is_open(path):
            assert api.request(method, filled).status_code not in (401, 403), path
            continue
        assert api.request(method, filled).status_code == 401, path
        role = needed(method, path)
        for shown in {role, max(role - 1, Role.VIEWER)}:
            status = api.request(method, filled, headers=bearer(keys[ROLES[shown - 1]])).status_code
            assert status != 401
            assert (status != 403) == (shown >= role), (method, path, shown, status)


@sqlite_only
def test_a_role_that_is_too_small_is_told_which_it_takes(api: TestClient, keys: dict[str, str]) -> None:
    answer = upload(api, ("a.png", png(1)), headers=bearer(keys["viewer"]))
    assert is_problem(answer, 403, "forbidden")
    assert "operator" in answer.json()["detail"]


def test_a_key_is_kept_as_a_hash_only_and_its_use_is_noted(
    api: TestClient, sessions: sessionmaker[Session]
) -> None:
    admin = make_key(api, "first", "admin")
    assert admin.startswith("sl_")
    assert api.get("/datasets", headers={"X-API-Key": admin}).status_code == 200
    with reading(sessions) as session:
        row = session.scalars(select(ApiKey)).one()
        assert row.sha256 == hash_of(admin)
        assert row.last_used_at is not None
        assert admin not in str(vars(row))
    listed = api.get("/keys", headers=bearer(admin)).json()
    assert [(k["name"], k["role"], "key" in k) for k in listed] == [("first", "admin", False)]


def test_a_revoked_key_opens_nothing_and_its_name_is_not_given_again(
    api: TestClient, keys: dict[str, str]
) -> None:
    admin = bearer(keys["admin"])
    reviewer = next(k for k in api.get("/keys", headers=admin).json() if k["name"] == "a reviewer")
    assert api.get("/datasets", headers=bearer(keys["reviewer"])).status_code == 200
    assert api.delete(f"/keys/{reviewer['id']}", headers=admin).status_code == 204
    assert is_problem(api.get("/datasets", headers=bearer(keys["reviewer"])), 401, "unauthorized")
    again = api.post("/keys", json={"name": "a reviewer", "role": "viewer"}, headers=admin)
    assert is_problem(again, 409, "conflict")
    assert is_problem(api.delete(f"/keys/{NOBODY}", headers=admin), 404, "not-found")


@sqlite_only
def test_the_first_key_is_an_admins_and_the_last_admins_stays(api: TestClient) -> None:
    first = api.post("/keys", json={"name": "me", "role": "operator"})
    assert is_problem(first, 409, "conflict")
    admin = bearer(make_key(api, "me", "admin"))
    make_key(api, "line 4", "operator", headers=admin)
    mine = next(k for k in api.get("/keys", headers=admin).json() if k["name"] == "me")
    assert is_problem(api.delete(f"/keys/{mine['id']}", headers=admin), 409, "conflict")
    assert api.get("/datasets", headers=admin).status_code == 200


@sqlite_only
def test_with_a_key_in_the_database_this_machine_needs_one_too(api: TestClient) -> None:
    assert api.get("/datasets").status_code == 200
    make_key(api, "me", "admin")
    assert is_problem(api.get("/datasets"), 401, "unauthorized")
    assert api.get("/healthz").status_code == 200


@sqlite_only
def test_signing_in_gives_a_cookie_that_no_other_site_can_use(api: TestClient, keys: dict[str, str]) -> None:
    wrong = api.post("/signin", data={"key": "sl_wrong"}, follow_redirects=False)
    assert (wrong.status_code, wrong.headers["location"]) == (303, "/signin?wrong=1")
    answer = api.post("/signin", data={"key": keys["operator"], "next": "/jobs"}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/jobs")
    told = answer.headers["set-cookie"].lower()
    assert "httponly" in told
    assert "samesite=strict" in told
    assert keys["operator"] not in answer.headers["set-cookie"]
    assert api.get("/datasets").status_code == 200
    ours, theirs = {"Origin": "http://127.0.0.1"}, {"Origin": "https://evil.example"}
    assert upload(api, ("a.png", png(1)), headers=ours).status_code == 202
    assert is_problem(upload(api, ("a.png", png(2)), headers=theirs), 403, "forbidden")
    assert is_problem(upload(api, ("a.png", png(2))), 403, "forbidden")
    api.post("/signout", headers=ours)
    assert is_problem(api.get("/datasets"), 401, "unauthorized")


@sqlite_only
@pytest.mark.parametrize("onward", ["https://evil.example", "//evil.example", "/\\evil.example", "evil"])
def test_signing_in_never_leads_to_another_site(api: TestClient, keys: dict[str, str], onward: str) -> None:
    answer = api.post("/signin", data={"key": keys["viewer"], "next": onward}, follow_redirects=False)
    assert answer.headers["location"] == "/"


@sqlite_only
def test_a_forged_old_or_orphaned_cookie_opens_nothing(
    api: TestClient, keys: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    api.post("/signin", data={"key": keys["viewer"]}, follow_redirects=False)
    good = api.cookies[COOKIE]
    for cookie in (good[:-2] + "xx", "", "[]", good.partition(".")[0] + ".a.b", "ü"):
        headers = {b"Cookie": f"{COOKIE}={cookie}".encode()}
        assert is_problem(TestClient.get(fresh(api), "/datasets", headers=headers), 401, "unauthorized")
    monkeypatch.setattr(keyring, "SESSION_S", -1)
    assert is_problem(api.get("/datasets"), 401, "unauthorized")


def fresh(api: TestClient) -> TestClient:
    """The same application without cookies."""
    return TestClient(api.app, base_url="http://127.0.0.1", client=("127.0.0.1", 1))


@sqlite_only
def test_a_browser_without_a_key_is_led_to_the_sign_in_page(api: TestClient, keys: dict[str, str]) -> None:
    answer = api.get("/jobs", headers={"Accept": "text/html,*/*"}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/signin?next=/jobs")


@sqlite_only
def test_the_settings_key_is_an_admins_and_its_sessions_end_with_it(
    api_with: Callable[..., TestClient],
) -> None:
    first = api_with(api_key=SecretStr("schlüssel"))
    assert first.get("/keys", headers={b"X-API-Key": "schlüssel".encode()}).status_code == 200
    reviewer = first.post(
        "/keys", json={"name": "r", "role": "reviewer"}, headers={b"X-API-Key": "schlüssel".encode()}
    )
    assert reviewer.status_code == 201
    first.post("/signin", data={"key": "schlüssel"}, follow_redirects=False)
    assert first.get("/keys").status_code == 200
    second = api_with(api_key=SecretStr("another"))
    cookie = {"Cookie": f"{COOKIE}={first.cookies[COOKIE]}"}
    assert is_problem(second.get("/keys", headers=cookie), 401, "unauthorized")


@sqlite_only
def test_who_decides_is_the_name_of_the_key(api: TestClient, keys: dict[str, str]) -> None:
    body = made(api, ("a.png", png(1)), headers=bearer(keys["operator"]))
    image_id = api.get(f"/datasets/{body['dataset']['id']}/images", headers=bearer(keys["viewer"])).json()[
        "items"
    ][0]["id"]
    decisions = {"decisions": [{"image_id": image_id, "decision": "reject"}]}
    there = f"/datasets/{body['dataset']['id']}/reviews"
    answer = api.post(there, json=decisions, headers=bearer(keys["reviewer"]))
    assert answer.json()["by"] == "a reviewer"
