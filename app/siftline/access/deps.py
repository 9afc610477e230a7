"""What a request is given: the service's parts, and a session that the edge commits."""

from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Annotated

from anyio import CapacityLimiter
from fastapi import Depends, Request
from sqlalchemy.orm import Session, sessionmaker

from siftline.access.keyring import Keyring
from siftline.dispatch import Bell
from siftline.scoring.line import ScoringLine
from siftline.scoring.models import DetectorModels
from siftline.settings import Settings
from siftline.store.blobs import Blobs
from siftline.store.session import reading, transaction
from siftline.store.spool import Spool


@dataclass(frozen=True, slots=True)
class Parts:
    """What `main.create_app` put together. `ingests` bounds the uploads that are unpacked at one time."""

    settings: Settings
    sessions: sessionmaker[Session]
    blobs: Blobs
    spool: Spool
    decoders: Executor
    bell: Bell
    ingests: CapacityLimiter
    keyring: Keyring
    detectors: DetectorModels
    scoring: ScoringLine


async def get_parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


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
