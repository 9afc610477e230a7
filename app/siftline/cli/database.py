"""The database itself, for commands that need no server. Heavy imports wait until they are needed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from getpass import getuser
from socket import gethostname
from typing import TYPE_CHECKING

from siftline.domain.errors import Conflict, Unavailable
from siftline.domain.keys import DEFAULT_WORKSPACE
from siftline.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from siftline.store.audit import Deed

LOCAL_USER = "command-line"


def upgrade(settings: Settings) -> None:
    """Bring it to the newest revision. Raises Unavailable when it does not answer."""
    from siftline.store import migrate

    with _reached(settings):
        migrate.upgrade(settings)


@contextmanager
def opened_database(settings: Settings, action: str | None = None) -> Iterator[Session]:
    """One transaction, committed at the end; an `action` is written into the audit log with it.

    The embedded database is made and migrated first.

    Raises Unavailable when it does not answer, and Conflict when production's is at another revision.
    """
    from siftline.store import migrate
    from siftline.store.session import make_engine, session_factory, transaction

    if settings.database_url is None:
        upgrade(settings)
    with _reached(settings):
        if migrate.current(settings) != migrate.head():
            raise Conflict("The database is not at this version's revision. Run `siftline migrate` first.")
    engine = make_engine(settings.sqlalchemy_url)
    try:
        with transaction(session_factory(engine)) as session:
            if action is not None:
                session.info["deed"] = _deed(action)
            yield session
    finally:
        engine.dispose()


def _deed(action: str) -> Deed:
    from siftline.store.audit import Deed

    return Deed(
        who=LOCAL_USER,
        role="admin",
        workspace=DEFAULT_WORKSPACE,
        action=action,
        client=f"{_user()}@{gethostname()}"[:100],
    )


def _user() -> str:
    """In a container a user may have a number only."""
    try:
        return getuser()
    except (KeyError, OSError):  # which of them, is a question of Python's version
        return str(os.getuid())


@contextmanager
def _reached(settings: Settings) -> Iterator[None]:
    from sqlalchemy import make_url

    from siftline.store.session import DATABASE_AWAY

    try:
        yield
    except DATABASE_AWAY as error:
        shown = make_url(settings.sqlalchemy_url).render_as_string()  # without the password
        raise Unavailable(
            f"The database {shown} does not answer. Is it up, and SIFTLINE_DATABASE_URL right?"
        ) from error
