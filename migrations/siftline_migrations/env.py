"""How Alembic reaches the database: one transaction for all revisions, one migrator at a time."""

from alembic import context
from sqlalchemy import Connection

from siftline.settings import Settings
from siftline.store.models import Base
from siftline.store.session import make_engine

MIGRATION_LOCK = 0x51F71143  # any number nobody else uses for a PostgreSQL advisory lock


def migrate(connection: Connection) -> None:
    sqlite = connection.dialect.name == "sqlite"
    if sqlite:
        # Batch mode drops and rebuilds the table: with foreign keys on, ON DELETE CASCADE would empty every
        # child table. The pragma does nothing inside a transaction, hence the driver's own connection.
        connection.connection.cursor().execute("PRAGMA foreign_keys=OFF")
    with connection.begin():
        if not sqlite:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            render_as_batch=True,
            transactional_ddl=True,
        )
        with context.begin_transaction():
            context.run_migrations()
        if sqlite and (broken := connection.exec_driver_sql("PRAGMA foreign_key_check").all()):
            raise RuntimeError(f"the migration would leave {len(broken)} rows without their parents")


def run() -> None:
    url = context.config.attributes.get("url") or Settings().sqlalchemy_url
    engine = make_engine(url)
    try:
        with engine.connect() as connection:
            migrate(connection)
    finally:
        engine.dispose()


run()
