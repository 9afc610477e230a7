"""The migrations make what the models describe, on both databases, and never lose a row on the way."""

import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from uuid_utils.compat import uuid7

from siftline.settings import Settings
from siftline.store import migrate
from siftline.store.models import Dataset, Receipt
from siftline.store.session import make_engine, now, session_factory, transaction
from tests.conftest import PATIENCE_S


def tables(url: str) -> set[str]:
    engine = make_engine(url)
    try:
        return set(sa.inspect(engine).get_table_names()) - {"alembic_version"}
    finally:
        engine.dispose()


def test_migrations_go_up_down_and_up_again_and_match_the_models(empty_database_url: str) -> None:
    config = migrate.configuration(empty_database_url)
    settings = Settings(database_url=empty_database_url)

    migrate.upgrade(settings)
    command.check(config)  # raises when autogenerate finds a difference
    assert migrate.current(settings) == migrate.head()
    command.downgrade(config, "base")
    assert tables(empty_database_url) == set()
    assert migrate.current(settings) is None
    migrate.upgrade(settings)
    command.check(config)


def test_there_is_one_line_of_revisions() -> None:
    assert len(ScriptDirectory.from_config(migrate.configuration("")).get_heads()) == 1


def test_upgrading_makes_the_data_folder(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "not" / "yet" / "there")
    migrate.upgrade(settings)
    assert migrate.current(settings) == migrate.head()


def test_three_processes_may_migrate_at_once(empty_database_url: str) -> None:
    code = (
        "import sys; from siftline.settings import Settings; from siftline.store import migrate; "
        "migrate.upgrade(Settings(database_url=sys.argv[1]))"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, empty_database_url], stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    errors = [process.communicate(timeout=PATIENCE_S)[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], errors
    assert migrate.current(Settings(database_url=empty_database_url)) == migrate.head()


BATCH_ALTER = """
import sqlalchemy as sa
from alembic import op

revision = "next"
down_revision = "{head}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("datasets") as batch:
        batch.alter_column("name", type_=sa.String(300), existing_type=sa.String(200))


def downgrade() -> None:
    with op.batch_alter_table("datasets") as batch:
        batch.alter_column("name", type_=sa.String(200), existing_type=sa.String(300))
"""


@pytest.fixture
def config_with_a_batch_alter(empty_database_url: str, tmp_path: Path) -> Config:
    """The shipped revisions and one more, which rebuilds the table that everything hangs on."""
    config = migrate.configuration(empty_database_url)
    (tmp_path / "versions").mkdir()
    (tmp_path / "versions" / "next.py").write_text(BATCH_ALTER.format(head=migrate.head()))
    shipped = Path(ScriptDirectory.from_config(config).versions)
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", f"{shipped}\n{tmp_path / 'versions'}")
    return config


def count(url: str, table: str) -> int:
    engine = make_engine(url)
    try:
        with engine.connect() as connection:
            return int(connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one())  # noqa: S608 - our own names
    finally:
        engine.dispose()


def test_rebuilding_a_parent_table_keeps_its_children(
    empty_database_url: str, config_with_a_batch_alter: Config
) -> None:
    migrate.upgrade(Settings(database_url=empty_database_url))
    engine = make_engine(empty_database_url)
    with transaction(session_factory(engine)) as session:
        at = now(session)
        session.add(Dataset(id=uuid7(), name="parent", created_at=at, options={}))
        session.flush()
        parent = session.scalars(sa.select(Dataset.id)).one()
        session.add(
            Receipt(
                id=uuid7(),
                dataset_id=parent,
                batch_id=uuid7(),
                name="child",
                status="accepted",
                created_at=at,
            )
        )
    engine.dispose()

    before = migrate.head()
    for move, revision in (
        (command.upgrade, "head"),
        (command.downgrade, before),
        (command.upgrade, "head"),
    ):
        move(config_with_a_batch_alter, revision)
        assert (count(empty_database_url, "datasets"), count(empty_database_url, "receipts")) == (1, 1)
