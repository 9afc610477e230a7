"""Is everything there that the service needs to keep its promises?"""

from collections.abc import Callable
from tempfile import TemporaryFile

import redis
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from siftline.settings import Settings
from siftline.store import migrate, workers
from siftline.store.session import reading

BROKER_TIMEOUT_S = 2.0
OK = "ok"


def check(settings: Settings, sessions: sessionmaker[Session]) -> dict[str, str]:
    """What was looked at, each `ok` or what is wrong, in words for an operator."""
    checks: dict[str, Callable[[], str]] = {
        "database": lambda: _database(sessions),
        "migrations": lambda: _migrations(sessions),
        "storage": lambda: _storage(settings),
        "worker": lambda: _worker(settings, sessions),
    }
    if settings.redis_url is not None:
        checks["broker"] = lambda: _broker(settings.redis_url or "")
    return {name: _told(look) for name, look in checks.items()}


def _told(look: Callable[[], str]) -> str:
    try:
        return look()
    except SQLAlchemyError:
        return "the database does not answer"


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


def _storage(settings: Settings) -> str:
    for folder in (settings.spool_dir, settings.blobs_dir):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=folder) as file:
                file.write(b"written")
                file.flush()
        except OSError as error:
            return f"{folder} cannot be written: {error.strerror}"
    return OK


def _worker(settings: Settings, sessions: sessionmaker[Session]) -> str:
    with reading(sessions) as session:
        alive = workers.alive(session, within_s=2 * settings.lease_s)
    return OK if alive else f"no worker was heard of for {2 * settings.lease_s:g} s"


def _broker(url: str) -> str:
    timeout = BROKER_TIMEOUT_S
    try:
        with redis.Redis.from_url(url, socket_connect_timeout=timeout, socket_timeout=timeout) as client:
            client.ping()
    except redis.RedisError:
        return "the broker does not answer"
    return OK
