"""A detector's files live in the database, bit for bit, in pieces, and go with the detector."""

import hashlib
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker
from uuid_utils.compat import uuid7

from siftline.domain.errors import NotFound
from siftline.domain.jobs import JobKind
from siftline.store import artifacts, detectors, jobs
from siftline.store.artifacts import CHUNK_BYTES, ArtifactTooLarge
from siftline.store.models import Artifact, ArtifactChunk, Detector
from siftline.store.session import now, reading, transaction
from tests.integration.job_steps import add_dataset

MANY = 2**40


def add_detector(sessions: sessionmaker[Session], dataset_id: UUID | None = None) -> UUID:
    """A detector whose training is queued."""
    detector_id = uuid7()
    dataset_id = dataset_id or add_dataset(sessions)
    with transaction(sessions) as session:
        job = jobs.create(session, dataset_id, JobKind.TRAIN, {}, detector_id=detector_id)
        session.add(
            Detector(
                id=detector_id,
                dataset_id=dataset_id,
                job_id=job.id,
                version=1,
                name="d",
                method="funad",
                options={},
                created_at=now(session),
            )
        )
    return detector_id


def some_file(folder: Path, size: int) -> Path:
    path = folder / "file.bin"
    path.write_bytes(np.random.default_rng(size).bytes(size))
    return path


def write(
    sessions: sessionmaker[Session],
    detector_id: UUID,
    path: Path,
    name: str = "model.onnx",
    *,
    max_bytes: int = MANY,
) -> Artifact:
    with transaction(sessions) as session:
        return artifacts.write(
            session,
            detector_id,
            name,
            path,
            media_type="application/octet-stream",
            schema_version=1,
            max_bytes=max_bytes,
        )


def count_pieces(sessions: sessionmaker[Session]) -> int:
    with reading(sessions) as session:
        return session.scalar(select(func.count()).select_from(ArtifactChunk)) or 0


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, 2 * CHUNK_BYTES + 12_345])
def test_an_artifact_comes_back_bit_for_bit(
    sessions: sessionmaker[Session], tmp_path: Path, size: int
) -> None:
    path = some_file(tmp_path, size)
    detector_id = add_detector(sessions)
    write(sessions, detector_id, path)
    with reading(sessions) as session:
        row = artifacts.named(session, detector_id, "model.onnx")
    read = list(artifacts.pieces(sessions, row))
    assert b"".join(read) == path.read_bytes()
    assert (row.bytes, row.sha256) == (size, hashlib.sha256(path.read_bytes()).hexdigest())
    assert all(len(piece) <= CHUNK_BYTES for piece in read)
    assert count_pieces(sessions) == len(read) == -(-size // CHUNK_BYTES)


def test_artifacts_go_with_their_detector_and_jobs_stay(
    sessions: sessionmaker[Session], tmp_path: Path
) -> None:
    going, staying = add_detector(sessions), add_detector(sessions)
    path = some_file(tmp_path, CHUNK_BYTES + 1)
    for detector_id in (going, staying):
        write(sessions, detector_id, path)
    with transaction(sessions) as session:
        job_id = detectors.get(session, going)[1].id
        detectors.delete(session, going)
    assert count_pieces(sessions) == 2
    with reading(sessions) as session:
        assert artifacts.of_detectors(session, [going]) == []
        assert len(artifacts.of_detectors(session, [going, staying])) == 1
        assert jobs.get(session, job_id).detector_id is None
        with pytest.raises(NotFound):
            detectors.get(session, going)


def test_a_file_that_is_too_large_is_refused_and_leaves_nothing(
    sessions: sessionmaker[Session], tmp_path: Path
) -> None:
    detector_id = add_detector(sessions)
    path = some_file(tmp_path, 1000)
    with pytest.raises(ArtifactTooLarge):
        write(sessions, detector_id, path, max_bytes=999)
    assert count_pieces(sessions) == 0
    write(sessions, detector_id, path, max_bytes=1000)


def test_a_name_is_given_once(sessions: sessionmaker[Session], tmp_path: Path) -> None:
    detector_id = add_detector(sessions)
    path = some_file(tmp_path, 10)
    write(sessions, detector_id, path)
    with pytest.raises(IntegrityError):
        write(sessions, detector_id, path)
    write(sessions, detector_id, path, "report.json")
    with reading(sessions) as session:
        assert [row.name for row in artifacts.of_detectors(session, [detector_id])] == [
            "model.onnx",
            "report.json",
        ]


def test_a_reader_notices_that_the_detector_was_deleted_and_holds_no_connection_meanwhile(
    sessions: sessionmaker[Session], tmp_path: Path
) -> None:
    detector_id = add_detector(sessions)
    row = write(sessions, detector_id, some_file(tmp_path, 2 * CHUNK_BYTES))
    reader = artifacts.pieces(sessions, row)
    assert len(next(reader)) == CHUNK_BYTES
    assert sessions.kw["bind"].pool.checkedout() == 0
    with transaction(sessions) as session:
        detectors.delete(session, detector_id)
    with pytest.raises(NotFound):
        next(reader)


MOVE = """
import resource, sys
from pathlib import Path
from uuid import UUID
from siftline.store import artifacts
from siftline.store.session import make_engine, session_factory, transaction

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

url, detector_id, small, large = sys.argv[1:]
sessions = session_factory(make_engine(url))
for name in (small, large):
    with transaction(sessions) as session:
        row = artifacts.write(session, UUID(detector_id), Path(name).name, Path(name), media_type="a/b",
                              schema_version=1, max_bytes=2**40)
    for _ in artifacts.pieces(sessions, row):
        pass
    print(peak())
"""


def test_memory_does_not_grow_with_the_artifact(
    sessions: sessionmaker[Session], database_url: str, tmp_path: Path
) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(bytes(2 * CHUNK_BYTES))
    large.write_bytes(bytes(24 * CHUNK_BYTES))
    detector_id = str(add_detector(sessions))
    told = subprocess.run(
        [sys.executable, "-c", MOVE, database_url, detector_id, str(small), str(large)],
        check=True,
        capture_output=True,
        text=True,
    )
    after_small_mib, after_large_mib = (int(line) for line in told.stdout.split())
    assert after_large_mib - after_small_mib < 30, told.stdout  # of 88 MiB more
