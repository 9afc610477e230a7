"""Two transactions over the keys of one workspace: the second counts what the first has done."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from time import monotonic, sleep

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session, sessionmaker

from siftline import schemas
from siftline.domain.errors import Conflict
from siftline.services import keys
from siftline.store.session import reading, transaction
from tests.conftest import PATIENCE_S

Work = Callable[[Session], object]


def one_after_the_other(sessions: sessionmaker[Session], first: Work, second: Work) -> Future[object]:
    """`second`, begun while the transaction of `first` was open."""

    def run() -> object:
        with transaction(sessions) as session:
            return second(session)

    with ThreadPoolExecutor(1) as beside:
        with transaction(sessions) as session:
            first(session)
            begun = beside.submit(run)
            wait_until_it_waits(sessions, begun)
        return begun


def wait_until_it_waits(sessions: sessionmaker[Session], begun: Future[object]) -> None:
    """For a lock, or no longer: SQLite tells of nobody who waits, but lets no second writer in."""
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    deadline = monotonic() + PATIENCE_S
    with sessions() as session:
        if session.get_bind().dialect.name == "sqlite":
            return
    while not begun.done() and monotonic() < deadline:
        with reading(sessions) as session:
            if session.scalar(waiting):
                return
        sleep(0.01)


def made(sessions: sessionmaker[Session], name: str, role: schemas.RoleName) -> schemas.Key:
    with transaction(sessions) as session:
        return keys.create(session, schemas.NewKey(name=name, role=role), by="a test")


def test_of_two_keys_made_at_once_under_one_name_the_second_is_told_that_it_is_taken(
    sessions: sessionmaker[Session],
) -> None:
    def make(session: Session) -> object:
        return keys.create(session, schemas.NewKey(name="line 4", role="admin"), by="a test")

    with pytest.raises(Conflict, match="choose another name"):
        one_after_the_other(sessions, make, make).result()


def test_of_two_last_admins_who_revoke_each_other_at_once_one_stays(sessions: sessionmaker[Session]) -> None:
    anna, ben = made(sessions, "anna", "admin"), made(sessions, "ben", "admin")
    made(sessions, "line 4", "viewer")
    of_ben = one_after_the_other(
        sessions,
        lambda session: keys.revoke(session, ben.id, by="anna"),
        lambda session: keys.revoke(session, anna.id, by="ben"),
    )
    with pytest.raises(Conflict, match="last admin"):
        of_ben.result()
    with reading(sessions) as session:
        assert {key.name for key in keys.every(session) if key.revoked_at is None} == {"anna", "line 4"}


def test_no_key_is_made_that_the_only_admin_going_at_once_would_leave_alone(
    sessions: sessionmaker[Session],
) -> None:
    anna = made(sessions, "anna", "admin")
    viewer = one_after_the_other(
        sessions,
        lambda session: keys.revoke(session, anna.id, by="anna"),
        lambda session: keys.create(session, schemas.NewKey(name="line 4", role="viewer"), by="anna"),
    )
    with pytest.raises(Conflict, match="must be an admin's"):
        viewer.result()
