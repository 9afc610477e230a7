"""Is it alive, is it ready, where is the manual."""

from importlib.metadata import version

from fastapi import APIRouter

from siftline import schemas
from siftline.access.deps import PartsDep
from siftline.domain.errors import Unavailable
from siftline.services import readiness

router = APIRouter(tags=["system"])


class NotReady(Unavailable):
    code = "not-ready"
    title = "Something the service needs is missing"


@router.get("/healthz")
async def healthz() -> schemas.Health:
    """The process answers. Never asks anybody else, so that a sick database does not restart the service."""
    return schemas.Health(status="ok", version=version("siftline"))


@router.get("/readyz")
def readyz(parts: PartsDep) -> schemas.Health:
    """503 names what is missing: database, migrations, storage, a worker's heartbeat, the broker if set."""
    checks = readiness.check(parts.settings, parts.sessions)
    missing = [
        {"loc": [name], "msg": told, "type": "not-ready"} for name, told in checks.items() if told != "ok"
    ]
    if missing:
        raise NotReady("See `errors` for what is missing.", errors=missing, retry_after_s=5)
    return schemas.Health(status="ok", version=version("siftline"), checks=checks)
