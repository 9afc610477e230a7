"""A detector's files as rows: in pieces, so that neither side ever holds a whole model to move it."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import UUID

from sqlalchemy import insert, select
from sqlalchemy.orm import Session, sessionmaker
from uuid_utils.compat import uuid7

from siftline.domain.errors import NotFound, TooLarge
from siftline.store.models import Artifact, ArtifactChunk
from siftline.store.session import now, reading

CHUNK_BYTES = 4 * 2**20


class ArtifactTooLarge(TooLarge):
    code = "artifact-too-large"
    title = "The detector is larger than this server accepts"


def write(
    session: Session,
    detector_id: UUID,
    name: str,
    path: Path,
    *,
    media_type: str,
    schema_version: int,
    max_bytes: int,
) -> Artifact:
    """Store the file at `path` as the detector's artifact `name`.

    Call it in the transaction that makes the detector ready. Raises ArtifactTooLarge above `max_bytes`, and
    IntegrityError when the detector has an artifact of that name.
    """
    if path.stat().st_size > max_bytes:
        raise ArtifactTooLarge(f"The detector's {name} has more than {max_bytes} bytes.")
    row = Artifact(
        id=uuid7(),
        detector_id=detector_id,
        name=name,
        media_type=media_type,
        bytes=0,
        sha256="",
        schema_version=schema_version,
        created_at=now(session),
    )
    session.add(row)
    session.flush()  # the pieces point at it
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for number, content in enumerate(iter(lambda: file.read(CHUNK_BYTES), b"")):
            # Not as objects: the session would keep every piece until the commit.
            piece = {"artifact_id": row.id, "number": number, "content": content}
            session.execute(insert(ArtifactChunk), piece)
            digest.update(content)
            row.bytes += len(content)
    row.sha256 = digest.hexdigest()
    session.flush()
    return row


def named(session: Session, detector_id: UUID, name: str) -> Artifact:
    """Raises NotFound."""
    row = session.scalar(select(Artifact).where(Artifact.detector_id == detector_id, Artifact.name == name))
    if row is None:
        raise NotFound(f"Detector {detector_id} has no artifact {name!r}.")
    return row


def of_detectors(session: Session, detector_ids: Sequence[UUID]) -> Sequence[Artifact]:
    """All artifacts of these detectors, by name."""
    query = select(Artifact).where(Artifact.detector_id.in_(detector_ids))
    return session.scalars(query.order_by(Artifact.detector_id, Artifact.name)).all()


def pieces(sessions: sessionmaker[Session], artifact: Artifact) -> Iterator[bytes]:
    """The artifact's bytes, piece by piece, each read in a short transaction of its own.

    A slow reader keeps neither a transaction nor a connection. Raises NotFound when the detector is deleted
    meanwhile.
    """
    left = artifact.bytes
    number = 0
    while left > 0:
        with reading(sessions) as session:
            content = _piece(session, artifact.id, number)
        left -= len(content)
        number += 1
        yield content


def _piece(session: Session, artifact_id: UUID, number: int) -> bytes:
    content = session.scalar(
        select(ArtifactChunk.content).where(
            ArtifactChunk.artifact_id == artifact_id, ArtifactChunk.number == number
        )
    )
    if content is None:
        raise NotFound("The artifact was deleted while it was read.")
    return content
