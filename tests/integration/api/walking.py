"""Every route there is, seen and hidden, and keys to walk them with."""

from typing import Any

from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient

ROLES = ("viewer", "reviewer", "operator", "admin")


def routes_of(api: TestClient) -> set[tuple[str, str]]:
    """Method and path template."""
    contexts = iter_route_contexts(api.app.routes)  # type: ignore[attr-defined]  # it is our FastAPI application
    return {(method, context.path_format or "") for context in contexts for method in context.methods or ()}


def make_key(api: TestClient, name: str, role: str, workspace: str | None = None, **more: Any) -> str:
    new = {"name": name, "role": role} | ({} if workspace is None else {"workspace": workspace})
    answer = api.post("/keys", json=new, **more)
    assert answer.status_code == 201, answer.text
    key: str = answer.json()["key"]
    return key


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}
