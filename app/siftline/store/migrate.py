"""Bring a database to the schema this code expects."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, make_url

from siftline.settings import Settings
from siftline.store.session import make_engine


def configuration(url: str) -> Config:
    """Alembic's configuration without an ini file, so that an installed wheel can migrate."""
    config = Config()
    config.set_main_option("script_location", "siftline_migrations:")
    config.attributes["url"] = url
    return config


def upgrade(settings: Settings) -> None:
    """Migrate to the newest revision; processes doing it at once wait for each other."""
    url = make_url(settings.sqlalchemy_url)
    if url.get_backend_name() == "sqlite" and url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    command.upgrade(configuration(settings.sqlalchemy_url), "head")


def revision(connection: Connection) -> str | None:
    """The revision the database is at; None before the first migration."""
    return MigrationContext.configure(connection).get_current_revision()


def current(settings: Settings) -> str | None:
    """As `revision`, for whoever has no connection yet."""
    engine = make_engine(settings.sqlalchemy_url)
    try:
        with engine.connect() as connection:
            return revision(connection)
    finally:
        engine.dispose()


def head() -> str:
    """The revision this code needs."""
    newest = ScriptDirectory.from_config(configuration("")).get_current_head()
    assert newest is not None  # noqa: S101 - the package ships its revisions
    return newest
