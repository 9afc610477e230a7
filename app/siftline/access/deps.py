"""What a request is given: the service's parts, and a session that the edge commits."""

from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Annotated
from uuid import UUID

from anyio import CapacityLimiter
from fastapi import Depends, Request
from sqlalchemy.orm import Session, sessionmaker

from siftline.access.gate import READING
from siftline.access.keyring import Keyring
from siftline.access.principal import NOBODY, Principal
from siftline.dispatch import Bell
from siftline.metrics import Metrics
from siftline.scoring.line import ScoringLine
from siftline.scoring.models import DetectorModels
from siftline.settings import Settings
from siftline.store.audit import Deed
from siftline.store.blobs import Blobs
from siftline.store.scope import Scope, scoped
from siftline.store.session import reading, transaction
from siftline.store.spool import Spool

OwnDetector = tuple[str, UUID]
"""Workspace and id: what one workspace has loaded, no other finds."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What `main.create_app` put together.

    `ingests` bounds the uploads that are unpacked at one time; `probes` are threads that no other request can
    take from whoever asks whether the service is ready.
    """

    settings: Settings
    sessions: sessionmaker[Session]
    blobs: Blobs
    spool: Spool
    decoders: Executor
    bell: Bell
    ingests: CapacityLimiter
    probes: CapacityLimiter
    keyring: Keyring
    detectors: DetectorModels[OwnDetector]
    scoring: ScoringLine
    metrics: Metrics


async def get_parts(request: Request) -> Parts:
    """The service's parts, with sessions that see the asker's workspace only and log what they change."""
    parts: Parts = request.app.state.parts
    principal: Principal = request.scope["state"].get("principal", NOBODY)
    scope = Scope(principal.workspace, principal.owner)
    return replace(parts, sessions=scoped(parts.sessions, scope, _deed(request, principal)))


def _deed(request: Request, principal: Principal) -> Deed | None:
    if request.method in READING:
        return None
    return Deed(
        who=principal.name,
        role=principal.role.name.lower(),
        workspace=principal.workspace,
        action=f"{request.method} {request.scope['route'].path_format}",
        client=request.client.host if request.client else "",
        objects=tuple(f"{name.removesuffix('_id')}:{value}" for name, value in request.path_params.items()),
        request_id=request.scope["state"].get("request_id"),
    )


def get_session(parts: "PartsDep") -> Iterator[Session]:
    with transaction(parts.sessions) as session:
        yield session


def get_reading_session(parts: "PartsDep") -> Iterator[Session]:
    with reading(parts.sessions) as session:
        yield session


PartsDep = Annotated[Parts, Depends(get_parts)]
# Function scope: committed before the answer goes out, so that a failed commit is a 500 and not a 201.
Writing = Annotated[Session, Depends(get_session, scope="function")]
Reading = Annotated[Session, Depends(get_reading_session, scope="function")]
