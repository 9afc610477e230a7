"""Is everything there that the service needs to keep its promises?"""

from collections.abc import Callable, Collection
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Literal
from uuid import uuid4

import redis
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from siftline.domain.errors import Unavailable
from siftline.domain.jobs import Lane
from siftline.settings import Settings
from siftline.store import migrate, workers
from siftline.store.blobs import PROBE_PREFIX, Blobs
from siftline.store.session import reading

BROKER_TIMEOUT_S = 2.0
PROBE = b"written"
OK = "ok"
AWAY = "the database does not answer"
UNKNOWN = "nobody can tell while the database does not answer"
NO_TABLES = "nobody can tell before the database has this version's tables"
IN_THE_DATABASE = {"migrations", "worker"}


Check = Literal["database", "migrations", "storage", "worker", "broker", "scoring"]
"""`scoring` is the API process's own affair: it is looked at there."""


def check(
    settings: Settings, sessions: sessionmaker[Session], blobs: Blobs, only: Collection[Check] = ()
) -> dict[str, str]:
    """What was looked at (all, or `only` these), each `ok` or what is wrong, in words for an operator."""
    checks: dict[str, Callable[[], str]] = {
        "database": lambda: _database(sessions),
        "migrations": lambda: _migrations(sessions),
        "storage": lambda: _storage(settings, blobs),
        "worker": lambda: _worker(settings, sessions),
    }
    if settings.redis_url is not None:
        checks["broker"] = lambda: _broker(settings.redis_url or "")
    told: dict[str, str] = {}
    for name, look in checks.items():
        if only and name not in only:
            continue
        if name in IN_THE_DATABASE and AWAY in told.values():
            told[name] = UNKNOWN  # asking again would be as long a wait again
            continue
        try:
            told[name] = look()
        except SQLAlchemyError:
            told[name] = AWAY if told.get("migrations", OK) == OK else NO_TABLES
    return told


def _database(sessions: sessionmaker[Session]) -> str:
    with reading(sessions) as session:
        session.execute(text("SELECT 1"))
    return OK


def _migrations(sessions: sessionmaker[Session]) -> str:
    with reading(sessions) as session:
        current, needed = migrate.revision(session.connection()), migrate.head()
    if current == needed:
        return OK
    return (
        f"the database is at {current or 'no revision'}, this version needs {needed}: run `siftline migrate`"
    )


def _storage(settings: Settings, blobs: Blobs) -> str:
    """Written as an image is: into the spool, then to the blobs; read back, and gone again."""
    key = f"{PROBE_PREFIX}{uuid4().hex}"
    try:
        settings.spool_dir.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=settings.spool_dir, delete=False) as file:
            probe = Path(file.name)
            try:
                file.write(PROBE)
                file.flush()
                blobs.put(key, probe)
            finally:  # nobody else would: the next look is in some seconds, perhaps for days
                probe.unlink(missing_ok=True)
        with blobs.open(key) as blob:
            content = blob.read()
        blobs.delete(key)
    except OSError as error:
        return f"{settings.data_dir} cannot be written: {error.strerror}"
    except Unavailable:
        return f"the bucket {settings.s3_bucket} cannot be written or read"
    return OK if content == PROBE else "what was written to the storage did not come back"


def _worker(settings: Settings, sessions: sessionmaker[Session]) -> str:
    """Somebody for each lane that jobs may come to."""
    within_s = 2 * settings.lease_s
    lanes = [Lane.LIGHT, Lane.HEAVY] + ([Lane.GPU] if settings.gpu_backbones else [])
    with reading(sessions) as session:
        missing = [lane for lane in lanes if not workers.serving(session, lane, within_s)]
    if not missing:
        return OK
    return f"no worker for {' and '.join(missing)} jobs was heard of for {within_s:g} s"


def _broker(url: str) -> str:
    timeout = BROKER_TIMEOUT_S
    try:
        with redis.Redis.from_url(url, socket_connect_timeout=timeout, socket_timeout=timeout) as client:
            client.ping()
    except redis.RedisError:
        return "the broker does not answer"
    return OK
