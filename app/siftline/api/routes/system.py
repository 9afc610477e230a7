"""Is it alive, is it ready, where is the manual."""

from functools import partial
from importlib.metadata import version
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response

from siftline import schemas
from siftline.access.deps import PartsDep
from siftline.access.principal import PrincipalDep
from siftline.api.problems import raises
from siftline.domain.errors import Forbidden, Unavailable
from siftline.domain.keys import DEFAULT_WORKSPACE
from siftline.scoring.line import RESTARTED_WITHIN_S
from siftline.services import readiness
from siftline.services.readiness import Check

router = APIRouter(tags=["system"])


class StandsStill(Unavailable):
    code = "stands-still"
    title = "The process wants to be restarted"


class NotReady(Unavailable):
    code = "not-ready"
    title = "Something the service needs is missing"


@router.get("/healthz", responses=raises(StandsStill))
async def healthz(parts: PartsDep) -> schemas.Health:
    """The process answers; 503 when only a restart helps: scoring threads hang.

    Never asks anybody else, so that a sick database does not restart the service.
    """
    if parts.scoring.standstill:
        raise StandsStill(f"{parts.scoring.standstill}.", retry_after_s=RESTARTED_WITHIN_S)
    return schemas.Health(status="ok", version=version("siftline"))


@router.get("/readyz", responses=raises(NotReady))
async def readyz(
    parts: PartsDep,
    only: Annotated[list[Check], Query(max_length=6)] = [],  # noqa: B006 - FastAPI copies it
) -> schemas.Health:
    """503 names what is missing: database, migrations, storage, a worker of each lane, the broker if set, and
    scoring threads that come back.

    `only` is for whoever decides where to send requests: one that needs no worker need not wait for one.
    """
    look = partial(readiness.check, parts.settings, parts.sessions, parts.blobs, only)
    checks = await to_thread.run_sync(look, limiter=parts.probes)
    if not only or "scoring" in only:
        checks["scoring"] = parts.scoring.standstill or readiness.OK
    missing = [
        {"loc": [name], "msg": told, "type": "not-ready"}
        for name, told in checks.items()
        if told != readiness.OK
    ]
    if missing:
        raise NotReady("See `errors` for what is missing.", errors=missing, retry_after_s=5)
    return schemas.Health(status="ok", version=version("siftline"), checks=checks)


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def metrics(request: Request, parts: PartsDep, principal: PrincipalDep) -> Response:
    """Figures for Prometheus, of all workspaces: a viewer's key of the workspace `default` opens them."""
    if not (principal.owner or principal.workspace == DEFAULT_WORKSPACE):
        raise Forbidden("The figures are of all workspaces; a key of this one does not open them.")
    content, media_type = parts.metrics.written(request.headers.get("accept", ""))
    return Response(content, media_type=media_type)
