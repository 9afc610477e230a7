"""The database itself, for commands that need no server. Heavy imports wait until they are needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from siftline.domain.errors import Conflict, Unavailable
from siftline.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def upgrade(settings: Settings) -> None:
    """Bring it to the newest revision. Raises Unavailable when it does not answer."""
    from siftline.store import migrate

    with _reached(settings):
        migrate.upgrade(settings)


@contextmanager
def opened_database(settings: Settings) -> Iterator[Session]:
    """One transaction, committed at the end. The embedded database is made and migrated first.

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
            yield session
    finally:
        engine.dispose()


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
