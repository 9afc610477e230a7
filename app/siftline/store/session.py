"""Engines, transactions and what happens after them.

Query functions take a session and never commit; the edge does, through `transaction`.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from json import dumps
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, func, make_url, select
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.orm import Session, SessionTransaction, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry

from siftline.store.audit import remember_made, write_deed
from siftline.store.scope import keep_to_workspace

log = logging.getLogger(__name__)
T = TypeVar("T")

SQLITE_BUSY_MS = 30_000
CONNECT_TIMEOUT_S = 5
KEPT_CONNECTIONS = 5
KEPT_BY_WORKERS = 1
"""And one by the process of its job: 64 workers must not fill a PostgreSQL, which takes a hundred."""
READ_ONLY = {"siftline_read_only": True, "postgresql_readonly": True}
DATABASE_AWAY = (OperationalError, InterfaceError)


def make_engine(
    url: str,
    *,
    connections: int = 15,
    kept: int = KEPT_CONNECTIONS,
    connect_timeout_s: int = CONNECT_TIMEOUT_S,
) -> Engine:
    """An engine for `settings.sqlalchemy_url`, with at most so many connections, some of which it keeps.

    A SQLite file's folder must exist.
    """
    # SQLite's JSON paths compare bytes: an escaped non-ASCII key would never be found.
    options: dict[str, Any] = {"json_serializer": lambda value: dumps(value, ensure_ascii=False)}
    options |= {"pool_size": kept, "max_overflow": connections - kept}
    if make_url(url).get_backend_name() == "postgresql":
        options |= {"pool_pre_ping": True, "connect_args": {"connect_timeout": connect_timeout_s}}
    engine = create_engine(url, **options)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    # The driver's own BEGIN comes too late and is deferred: read-modify-write lost updates (measured).
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={SQLITE_BUSY_MS}")
    cursor.execute("PRAGMA foreign_keys=ON")
    if cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        cursor.execute("PRAGMA journal_mode=WAL")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    reads = connection.get_execution_options().get("siftline_read_only", False)
    # query_only turns a write that slipped into a read into an error, as READ ONLY does on PostgreSQL.
    connection.exec_driver_sql(f"PRAGMA query_only={'ON' if reads else 'OFF'}")
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def session_factory(engine: Engine) -> sessionmaker[Session]:
    """Sessions whose objects stay readable after commit; `after_commit`, scope and audit log are wired."""
    sessions = sessionmaker(engine, expire_on_commit=False)
    event.listen(sessions, "do_orm_execute", keep_to_workspace)
    event.listen(sessions, "pending_to_persistent", remember_made)
    event.listen(sessions, "before_commit", _write_deed)
    event.listen(sessions, "after_soft_rollback", _forget_what_was_rolled_back)
    event.listen(sessions, "after_commit", _mark_committed)
    event.listen(sessions, "after_transaction_end", _run_what_waited)
    return sessions


@contextmanager
def transaction(sessions: sessionmaker[Session]) -> Iterator[Session]:
    """One write transaction: committed at the end, rolled back on an exception."""
    with sessions.begin() as session:
        yield session


@contextmanager
def reading(sessions: sessionmaker[Session]) -> Iterator[Session]:
    """One read-only transaction: never waits for writers on SQLite, READ ONLY on PostgreSQL."""
    with sessions() as session:
        read_only(session)
        yield session


def read_only(session: Session) -> None:
    """Make the transaction that is about to start read-only; call before the first query."""
    session.connection(execution_options=READ_ONLY)


def now(session: Session) -> datetime:
    """The one clock all processes agree on: the database's on PostgreSQL, this machine's on SQLite."""
    if session.get_bind().dialect.name == "postgresql":
        # clock_timestamp, not now(): a transaction may have waited for a lock since it began.
        moment = session.scalar(select(func.clock_timestamp()))
        assert isinstance(moment, datetime)  # noqa: S101 - the database has no other answer
        return moment.astimezone(UTC)
    return datetime.now(UTC)


def retrying(
    sessions: sessionmaker[Session],
    work: Callable[[Session], T],
    *,
    patience_s: float,
    pause_s: float = 0.5,
) -> T:
    """Run `work` in a transaction, again while the database is away; `work` must be idempotent.

    A commit whose answer was lost may have happened: `work` must recognise its own success.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            with transaction(sessions) as session:
                return work(session)
        except DATABASE_AWAY as error:
            if time.monotonic() > deadline:
                raise
            log.warning("database is away, trying again in %.1f s: %s", pause_s, type(error.orig).__name__)
            time.sleep(pause_s)


def after_commit(session: Session, fn: Callable[[], None]) -> None:
    """Run `fn` once the outermost transaction has committed; never when it, or its savepoint, is undone.

    By then the work is safe, so an error of `fn` is logged and not raised.
    """
    within: list[SessionTransaction] = []
    # get_transaction begins nothing: registering before the first query belongs to the root that is coming.
    part = session.get_nested_transaction() or session.get_transaction()
    while part is not None:
        within.append(part)
        part = part.parent
    session.info.setdefault("waiting", []).append((within, fn))


def _write_deed(session: Session) -> None:
    # SQLAlchemy fires this when a savepoint is released, too.
    if "deed" in session.info and not session.in_nested_transaction():
        write_deed(session, now(session))


def _forget_what_was_rolled_back(session: Session, ended: SessionTransaction) -> None:
    waiting: list[Any] = session.info.get("waiting", [])
    if ended.parent is None:
        waiting.clear()
    else:
        waiting[:] = [(within, fn) for within, fn in waiting if ended not in within]


def _mark_committed(session: Session) -> None:
    # SQLAlchemy fires this when a savepoint is released, too.
    if not session.in_nested_transaction():
        session.info["due"] = session.info.pop("waiting", [])


def _run_what_waited(session: Session, ended: SessionTransaction) -> None:
    if ended.parent is not None:
        return
    session.info.pop("waiting", None)
    # Taken here rather than in after_commit, so that no connection is held while `fn` talks to a broker.
    for _, fn in session.info.pop("due", []):
        try:
            fn()
        except Exception:
            log.exception("a step after the commit failed")
