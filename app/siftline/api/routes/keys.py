"""API keys, what was done with them, and signing in to the page with one."""

from typing import Annotated
from uuid import UUID

from anyio import to_thread
from fastapi import APIRouter, Body, Form, Request, Response
from fastapi.responses import RedirectResponse

from siftline import schemas
from siftline.access.deps import Parts, PartsDep, Reading
from siftline.access.gate import COOKIE
from siftline.access.keyring import SESSION_S
from siftline.access.principal import PrincipalDep
from siftline.api.parameters import Cursor, Limit
from siftline.api.problems import raises
from siftline.domain.errors import Conflict, Forbidden
from siftline.services import audit, keys
from siftline.store.session import transaction

router = APIRouter(tags=["keys"])


@router.post("/keys", status_code=201, responses=raises(Conflict))
def create_key(parts: PartsDep, principal: PrincipalDep, new: schemas.NewKey) -> schemas.KeyCreated:
    """Make a key; the answer is the only place it is ever shown. From the first on, nobody enters without."""
    if new.workspace not in (None, principal.workspace) and not principal.owner:
        raise Forbidden(f"The key {principal.name!r} makes keys of {principal.workspace!r} only.")
    with transaction(parts.sessions) as session:
        created = keys.create(session, new, by=principal.name, has_master=_has_master(parts))
    parts.keyring.forget()
    return created


@router.get("/keys")
def list_keys(session: Reading) -> list[schemas.Key]:
    """Newest first, revoked ones too."""
    return keys.every(session)


@router.delete("/keys/{key_id}", status_code=204, responses=raises(Conflict))
def revoke_key(parts: PartsDep, principal: PrincipalDep, key_id: UUID) -> None:
    """It opens nothing any more, on other API hosts within seconds; its name stays with what it did."""
    with transaction(parts.sessions) as session:
        keys.revoke(session, key_id, by=principal.name, has_master=_has_master(parts))
    parts.keyring.forget()


@router.post("/keys/{key_id}/rotate", status_code=201, responses=raises(Conflict))
def rotate_key(
    parts: PartsDep,
    principal: PrincipalDep,
    key_id: UUID,
    how: Annotated[schemas.RotateKey, Body()] = schemas.RotateKey(),  # noqa: B008 - frozen
) -> schemas.KeyCreated:
    """Another secret under the same name; the old one opens for `grace_s` more, by default not at all."""
    with transaction(parts.sessions) as session:
        rotated = keys.rotate(session, key_id, how, by=principal.name)
    parts.keyring.forget()
    return rotated


@router.get("/audit")
def list_audit(
    session: Reading, cursor: Cursor = None, limit: Limit = 100
) -> schemas.Page[schemas.AuditEntry]:
    """Who changed what, when, from where; newest first."""
    return audit.page(session, after=cursor, limit=limit)


@router.post("/signin", include_in_schema=False)
async def sign_in(
    request: Request,
    parts: PartsDep,
    key: Annotated[str, Form(max_length=200)],
    onward: Annotated[str, Form(alias="next", max_length=500)] = "/",
) -> Response:
    """A form's key becomes a cookie that no script can read and no other site can use."""
    cookie = await to_thread.run_sync(parts.keyring.cookie_for, key.strip())
    if cookie is None:
        return RedirectResponse("/signin?wrong=1", status_code=303)
    answer = RedirectResponse(_here(onward), status_code=303)
    secure = request.url.scheme == "https"
    answer.set_cookie(COOKIE, cookie, max_age=SESSION_S, httponly=True, samesite="strict", secure=secure)
    return answer


@router.post("/signout", include_in_schema=False)
async def sign_out() -> Response:
    answer = RedirectResponse("/signin", status_code=303)
    answer.delete_cookie(COOKIE)
    return answer


def _has_master(parts: Parts) -> bool:
    return parts.settings.api_key is not None


def _here(path: str) -> str:
    """Never to another site: a link with `next=https://evil` must not make our sign-in its accomplice."""
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) else "/"
