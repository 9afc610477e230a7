"""A job moves only as the table of legal moves says, one worker at a time, and every move leaves a row."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from uuid import UUID

import pytest
from sqlalchemy import delete
from sqlalchemy.orm import Session, sessionmaker
from uuid_utils.compat import uuid7

from siftline.domain.errors import JobStateConflict, NotFound
from siftline.domain.jobs import FINISHED, NEXT, JobState, Lane
from siftline.store import job_lists, jobs
from siftline.store.jobs import Claim, LostJob
from siftline.store.models import Dataset
from siftline.store.session import make_engine, now, reading, session_factory, transaction
from tests.integration.job_steps import (
    A_PROBLEM,
    LEASE_S,
    add_dataset,
    add_job,
    bring_to,
    claim,
    read,
    states,
)

Move = Callable[[Session, Claim], object]


def take(session: Session, held: Claim) -> None:
    if jobs.claim(session, held.job_id, "somebody", LEASE_S) is None:
        raise LostJob


MOVES: dict[str, tuple[JobState, Move]] = {
    "claim": (JobState.RUNNING, take),
    "cancelled": (JobState.CANCELLED, lambda session, held: jobs.cancelled(session, held, "stopped")),
    "succeed": (JobState.SUCCEEDED, lambda session, held: jobs.succeed(session, held, {"n": 1})),
    "fail": (JobState.FAILED, lambda session, held: jobs.fail(session, held, A_PROBLEM)),
    "release": (JobState.QUEUED, lambda session, held: jobs.release(session, held, "shutdown")),
    "requeue": (JobState.QUEUED, lambda session, held: jobs.give_up_or_requeue(session, held, "died", 5)),
}


@pytest.mark.parametrize("state", JobState)
@pytest.mark.parametrize("name", MOVES)
def test_a_job_moves_only_along_the_table(
    sessions: sessionmaker[Session], state: JobState, name: str
) -> None:
    held = bring_to(sessions, state)
    before = states(sessions, held.job_id)
    to, move = MOVES[name]
    # A queued job has no holder, so what only a holder may do is out of reach.
    legal = to in NEXT[state] and (state != JobState.QUEUED or name == "claim")

    if legal:
        with transaction(sessions) as session:
            move(session, held)
        assert read(sessions, held.job_id).state == to
        assert states(sessions, held.job_id) == [*before, to]
    else:
        with pytest.raises(LostJob), transaction(sessions) as session:
            move(session, held)
        assert read(sessions, held.job_id).state == state
        assert states(sessions, held.job_id) == before


@pytest.mark.parametrize("state", JobState)
def test_nobody_but_the_holder_can_end_a_job(sessions: sessionmaker[Session], state: JobState) -> None:
    held = bring_to(sessions, state)
    other_owner = Claim(held.job_id, "somebody else", held.attempt)
    other_attempt = Claim(held.job_id, held.owner, held.attempt + 1)
    for stranger in (other_owner, other_attempt):
        for name in MOVES.keys() - {"claim"}:
            with pytest.raises(LostJob), transaction(sessions) as session:
                MOVES[name][1](session, stranger)
        with transaction(sessions) as session:
            assert not jobs.renew(session, stranger, LEASE_S)
            assert not jobs.report(session, stranger, "stage", 0.5)
            assert jobs.state_of(session, stranger) is None
    assert read(sessions, held.job_id).state == state


@pytest.mark.parametrize(
    ("state", "end"),
    [
        (JobState.QUEUED, JobState.CANCELLED),
        (JobState.RUNNING, JobState.CANCELLING),
        (JobState.CANCELLING, JobState.CANCELLING),
    ],
)
def test_cancelling_an_unfinished_job(
    sessions: sessionmaker[Session], state: JobState, end: JobState
) -> None:
    held = bring_to(sessions, state)
    with transaction(sessions) as session:
        assert jobs.request_cancel(session, held.job_id).state == end
    job = read(sessions, held.job_id)
    assert job.state == end
    assert (job.finished_at is not None) == (end == JobState.CANCELLED)


@pytest.mark.parametrize("state", sorted(FINISHED))
def test_cancelling_a_finished_job_is_a_conflict(sessions: sessionmaker[Session], state: JobState) -> None:
    held = bring_to(sessions, state)
    with pytest.raises(JobStateConflict), transaction(sessions) as session:
        jobs.request_cancel(session, held.job_id)
    assert read(sessions, held.job_id).state == state


def test_cancelling_or_reading_an_unknown_job_is_not_found(sessions: sessionmaker[Session]) -> None:
    for look in (jobs.get, jobs.request_cancel):
        with pytest.raises(NotFound), transaction(sessions) as session:
            look(session, uuid7())


def test_a_job_cancelled_while_queued_cannot_be_claimed(sessions: sessionmaker[Session]) -> None:
    job_id = add_job(sessions)
    with transaction(sessions) as session:
        jobs.request_cancel(session, job_id)
        assert jobs.claim(session, job_id, "me", LEASE_S) is None
    assert states(sessions, job_id) == ["queued", "cancelling", "cancelled"]


def test_a_released_attempt_does_not_count_and_a_lost_one_does(sessions: sessionmaker[Session]) -> None:
    job_id = add_job(sessions)
    with transaction(sessions) as session:
        jobs.release(session, Claim(job_id, "me", _attempt(session, job_id)), "shutdown")
    assert claim(sessions, job_id, "second").attempt == 1
    with transaction(sessions) as session:
        jobs.give_up_or_requeue(session, Claim(job_id, "second", 1), "died", max_attempts=2)
    third = claim(sessions, job_id, "third")
    assert third.attempt == 2
    with transaction(sessions) as session:
        jobs.give_up_or_requeue(session, third, "died", max_attempts=2)
    job = read(sessions, job_id)
    assert (job.state, job.error and job.error["code"]) == ("failed", "worker-lost")
    moves = ["queued", "running", "queued", "running", "queued", "running", "failed"]
    assert states(sessions, job_id) == moves


def _attempt(session: Session, job_id: UUID) -> int:
    taken = jobs.claim(session, job_id, "me", LEASE_S)
    assert taken is not None
    return taken.attempt


def test_only_what_is_new_counts_as_a_step(sessions: sessionmaker[Session]) -> None:
    held = claim(sessions, add_job(sessions))
    steps = set()
    for stage, progress in [("load", 0.0), ("load", 0.0), ("load", 0.1), ("load", 0.1), ("rank", 0.1)]:
        with transaction(sessions) as session:
            assert jobs.report(session, held, stage, progress)
        steps.add(read(sessions, held.job_id).updated_at)
    assert len(steps) == 3


def test_claiming_again_as_the_same_owner_gives_the_same_job(sessions: sessionmaker[Session]) -> None:
    job_id = add_job(sessions)
    first = claim(sessions, job_id)
    assert claim(sessions, job_id) == first
    assert states(sessions, job_id) == ["queued", "running"]


def test_of_many_claimers_at_once_one_gets_the_job(
    database_url: str, sessions: sessionmaker[Session]
) -> None:
    job_ids = [add_job(sessions) for _ in range(5)]
    claimers = 6
    start = threading.Barrier(claimers)

    def race(owner: str) -> list[UUID]:
        engine = make_engine(database_url)  # its own connections, as another process has
        mine = session_factory(engine)
        won = []
        try:
            for job_id in job_ids:
                start.wait()
                with transaction(mine) as session:
                    if jobs.claim(session, job_id, owner, LEASE_S):
                        won.append(job_id)
        finally:
            engine.dispose()
        return won

    with ThreadPoolExecutor(claimers) as pool:
        won = [job_id for mine in pool.map(race, map(str, range(claimers))) for job_id in mine]
    assert sorted(won) == sorted(job_ids)
    assert all(states(sessions, job_id) == ["queued", "running"] for job_id in job_ids)


def test_a_cancel_and_a_success_at_once_agree_on_one_end(
    database_url: str, sessions: sessionmaker[Session]
) -> None:
    start = threading.Barrier(2)

    def at_once(step: Callable[[Session], object]) -> str:
        engine = make_engine(database_url)
        start.wait()
        try:
            with transaction(session_factory(engine)) as session:
                step(session)
        except (LostJob, JobStateConflict):
            return "refused"
        finally:
            engine.dispose()
        return "done"

    for _ in range(8):
        held = bring_to(sessions, JobState.RUNNING)
        steps: list[Callable[[Session], object]] = [
            lambda session, held=held: jobs.succeed(session, held, {}),  # type: ignore[misc]  # no hint in a lambda
            lambda session, held=held: jobs.request_cancel(session, held.job_id),  # type: ignore[misc]  # no hint in a lambda
        ]
        with ThreadPoolExecutor(2) as pool:
            succeeded, cancelled = pool.map(at_once, steps)
        assert {succeeded, cancelled} == {"done", "refused"}
        state = read(sessions, held.job_id).state
        assert state == (JobState.SUCCEEDED if succeeded == "done" else JobState.CANCELLING)


def test_a_success_keeps_its_result_and_a_failure_its_problem(sessions: sessionmaker[Session]) -> None:
    done, failed = bring_to(sessions, JobState.RUNNING), bring_to(sessions, JobState.RUNNING)
    with transaction(sessions) as session:
        jobs.succeed(session, done, {"version": 3, "größe": "µ"})
        jobs.fail(session, failed, A_PROBLEM)
    job = read(sessions, done.job_id)
    assert (job.result, job.progress) == ({"version": 3, "größe": "µ"}, 1.0)
    assert read(sessions, failed.job_id).error == A_PROBLEM.problem()


def test_a_success_is_undone_with_its_transaction(sessions: sessionmaker[Session]) -> None:
    held = bring_to(sessions, JobState.RUNNING)
    with suppress(ZeroDivisionError), transaction(sessions) as session:
        jobs.succeed(session, held, {})
        raise ZeroDivisionError
    assert read(sessions, held.job_id).state == JobState.RUNNING
    assert states(sessions, held.job_id) == ["queued", "running"]


def test_renewing_pushes_the_lease_out_and_reporting_tells_progress(sessions: sessionmaker[Session]) -> None:
    held = bring_to(sessions, JobState.RUNNING)
    with transaction(sessions) as session:
        assert jobs.renew(session, held, 1000.0)
        assert jobs.report(session, held, "graph", 0.25)
        at = now(session)
    job = read(sessions, held.job_id)
    assert job.lease_until is not None
    assert 990 < (job.lease_until - at).total_seconds() < 1001
    assert (job.stage, job.progress) == ("graph", 0.25)


def test_jobs_wait_in_the_order_they_came(sessions: sessionmaker[Session]) -> None:
    dataset_id = add_dataset(sessions)
    first, second, third = (add_job(sessions, dataset_id) for _ in range(3))
    with reading(sessions) as session:
        assert jobs.next_queued(session, [Lane.HEAVY]) == first
        newest = job_lists.newest_purification(session, dataset_id)
        assert newest is not None
        assert newest.id == third
    claim(sessions, first)
    with reading(sessions) as session:
        assert jobs.next_queued(session, [Lane.HEAVY]) == second


def test_the_newest_job_of_each_dataset_is_found(sessions: sessionmaker[Session]) -> None:
    one, two, without = (add_dataset(sessions) for _ in range(3))
    newest = {}
    for dataset_id in (one, two, one, two, one):
        newest[dataset_id] = add_job(sessions, dataset_id)
    with reading(sessions) as session:
        found = job_lists.newest_of_datasets(session, [one, two, without])
    assert {dataset_id: job.id for dataset_id, job in found.items()} == newest


def test_deleting_a_dataset_takes_its_jobs_along(sessions: sessionmaker[Session]) -> None:
    dataset_id = add_dataset(sessions)
    held = claim(sessions, add_job(sessions, dataset_id))
    with transaction(sessions) as session:
        session.execute(delete(Dataset).where(Dataset.id == dataset_id))
    with transaction(sessions) as session:
        assert jobs.state_of(session, held) is None
        assert not jobs.report(session, held, "stage", 0.5)
        assert list(jobs.history(session, held.job_id)) == []
