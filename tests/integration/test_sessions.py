"""Transactions lose no update, reads wait for no writer, and what follows a commit follows a commit."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

from siftline.store.models import Dataset
from siftline.store.session import (
    after_commit,
    make_engine,
    now,
    reading,
    retrying,
    session_factory,
    transaction,
)
from tests.integration.job_steps import add_dataset


def test_an_exception_rolls_everything_back(sessions: sessionmaker[Session]) -> None:
    dataset_id = add_dataset(sessions)
    with suppress(ZeroDivisionError), transaction(sessions) as session:
        session.execute(update(Dataset).values(name="changed"))
        raise ZeroDivisionError
    with reading(sessions) as session:
        assert session.scalar(select(Dataset.name).where(Dataset.id == dataset_id)) == "d"


def test_reading_refuses_to_write_and_a_later_transaction_may(sessions: sessionmaker[Session]) -> None:
    add_dataset(sessions)
    with pytest.raises(DBAPIError), reading(sessions) as session:
        session.execute(update(Dataset).values(name="changed"))
    with transaction(sessions) as session:
        session.execute(update(Dataset).values(name="changed"))


def test_a_reader_does_not_wait_for_a_writer(database_url: str, sessions: sessionmaker[Session]) -> None:
    add_dataset(sessions)
    with transaction(sessions) as writer:
        writer.execute(update(Dataset).values(name="changed"))
        with reading(sessions) as session:
            assert session.scalar(select(Dataset.name)) == "d"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_read_modify_write_loses_no_update_on_sqlite(
    database_url: str, sessions: sessionmaker[Session]
) -> None:
    add_dataset(sessions)
    with transaction(sessions) as session:
        session.execute(update(Dataset).values(name="0"))

    def count_up(_: int) -> None:
        engine = make_engine(database_url)
        for _ in range(25):
            with transaction(session_factory(engine)) as session:
                dataset = session.scalars(select(Dataset)).one()
                dataset.name = str(int(dataset.name) + 1)
        engine.dispose()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count_up, range(4)))
    with reading(sessions) as session:
        assert session.scalar(select(Dataset.name)) == "100"


def test_the_clock_is_aware_and_moves_within_a_transaction(sessions: sessionmaker[Session]) -> None:
    with transaction(sessions) as session:
        first, second = now(session), now(session)
    assert first.tzinfo is UTC
    assert second > first


def test_json_with_keys_that_are_not_ascii_is_found(sessions: sessionmaker[Session]) -> None:
    add_dataset(sessions)
    with transaction(sessions) as session:
        session.execute(update(Dataset).values(options={"größe": "5 µm"}))
        found = select(Dataset.name).where(Dataset.options["größe"].as_string() == "5 µm")
        assert session.scalar(found) == "d"


def test_a_step_runs_after_the_commit_and_once(sessions: sessionmaker[Session]) -> None:
    rung: list[str] = []
    with sessions() as session:
        after_commit(session, lambda: rung.append("a"))
        session.execute(text("SELECT 1"))
        after_commit(session, lambda: rung.append("b"))
        assert rung == []
        session.commit()
        assert rung == ["a", "b"]
        session.execute(text("SELECT 1"))
        session.commit()
    assert rung == ["a", "b"]


def test_a_step_sees_the_work_committed(sessions: sessionmaker[Session]) -> None:
    seen: list[str | None] = []

    def look() -> None:
        with reading(sessions) as other:
            seen.append(other.scalar(select(Dataset.name)))

    add_dataset(sessions)
    with transaction(sessions) as session:
        session.execute(update(Dataset).values(name="changed"))
        after_commit(session, look)
    assert seen == ["changed"]


def test_a_step_never_runs_after_a_rollback(sessions: sessionmaker[Session]) -> None:
    rung: list[str] = []
    with suppress(ZeroDivisionError), transaction(sessions) as session:
        session.execute(text("SELECT 1"))
        after_commit(session, lambda: rung.append("a"))
        raise ZeroDivisionError
    with sessions() as session:
        session.execute(text("SELECT 1"))
        after_commit(session, lambda: rung.append("b"))
        session.rollback()
        session.execute(text("SELECT 1"))
        session.commit()
    with sessions() as session:
        session.execute(text("SELECT 1"))
        after_commit(session, lambda: rung.append("c"))
        session.close()
        session.execute(text("SELECT 1"))
        session.commit()
    assert rung == []


def test_a_released_savepoint_is_no_commit(sessions: sessionmaker[Session]) -> None:
    rung: list[str] = []
    with transaction(sessions) as session:
        with session.begin_nested():
            after_commit(session, lambda: rung.append("inner"))
        assert rung == []
        after_commit(session, lambda: rung.append("outer"))
    assert rung == ["inner", "outer"]


def test_a_rolled_back_savepoint_takes_its_own_steps_along(sessions: sessionmaker[Session]) -> None:
    rung: list[str] = []
    with transaction(sessions) as session:
        after_commit(session, lambda: rung.append("outer"))
        with suppress(ZeroDivisionError), session.begin_nested():
            after_commit(session, lambda: rung.append("undone"))
            with session.begin_nested():
                after_commit(session, lambda: rung.append("released, then undone"))
            raise ZeroDivisionError
        with session.begin_nested():
            after_commit(session, lambda: rung.append("kept"))
    assert rung == ["outer", "kept"]


def test_a_failing_step_stops_neither_the_caller_nor_the_next_step(sessions: sessionmaker[Session]) -> None:
    rung: list[str] = []

    def fail() -> None:
        raise ZeroDivisionError

    with transaction(sessions) as session:
        after_commit(session, fail)
        after_commit(session, lambda: rung.append("next"))
    assert rung == ["next"]


def test_retrying_runs_the_whole_transaction_again(sessions: sessionmaker[Session]) -> None:
    add_dataset(sessions)
    tries: list[int] = []

    def work(session: Session) -> str:
        session.execute(update(Dataset).values(name=Dataset.name + "+"))
        tries.append(1)
        if len(tries) < 3:
            raise OperationalError("the server went away", None, Exception())
        return "done"

    assert retrying(sessions, work, patience_s=10, pause_s=0.01) == "done"
    with reading(sessions) as session:
        assert session.scalar(select(Dataset.name)) == "d+"


def test_retrying_gives_up_when_patience_ends(sessions: sessionmaker[Session]) -> None:
    def work(session: Session) -> None:
        raise OperationalError("the server went away", None, Exception())

    with pytest.raises(OperationalError):
        retrying(sessions, work, patience_s=0.05, pause_s=0.01)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_connections_cut_by_the_server_are_replaced(sessions: sessionmaker[Session]) -> None:
    """What a restart of PostgreSQL does to a pool: every idle connection is dead when it comes back."""
    held = threading.Barrier(3)

    def use(_: int) -> None:
        with reading(sessions) as session:
            session.scalar(text("SELECT 1"))
            held.wait()  # so that each has a connection of its own

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(use, range(3)))
        with transaction(sessions) as session:
            session.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
        list(pool.map(use, range(3)))
