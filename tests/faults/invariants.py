"""What must hold when everything is quiet again, asked of the database, the disk and the service itself."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import make_url

from siftline.domain.jobs import NEXT, JobState
from siftline.store.blobs import SCORING_PREFIX, image_key, scoring_key, thumbnail_key
from tests.faults.traffic import Ledger

FULL = "out-of-resources"
"""How a job may end when the disk was full."""
WITNESS = """
CREATE TABLE witness (
  n bigserial PRIMARY KEY, job_id uuid, old_state text, new_state text, old_owner text, new_owner text,
  old_attempt int, new_attempt int, at timestamptz DEFAULT clock_timestamp());
CREATE FUNCTION bear_witness() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO witness (job_id, old_state, new_state, old_owner, new_owner, old_attempt, new_attempt)
  VALUES (NEW.id, OLD.state, NEW.state, OLD.owner, NEW.owner, OLD.attempt, NEW.attempt);
  RETURN NULL; END $$;
CREATE TRIGGER witness AFTER UPDATE ON jobs FOR EACH ROW
  WHEN (OLD.owner IS DISTINCT FROM NEW.owner OR OLD.state <> NEW.state OR OLD.attempt <> NEW.attempt)
  EXECUTE FUNCTION bear_witness();
"""
MOVES = """
SELECT job_id, old_state, new_state, old_owner, new_owner, old_attempt, new_attempt FROM witness ORDER BY n"""


class Database:
    """Looks past the service, at what is really there."""

    def __init__(self, url: str) -> None:
        self.dsn = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn) as connection:
            return connection.execute(query.encode()).fetchall()

    def install_witness(self) -> None:
        """Every change of a job's state, owner or attempt is written down, in its own transaction."""
        with psycopg.connect(self.dsn) as connection:
            connection.execute(WITNESS.encode())

    def remove_witness(self) -> None:
        with psycopg.connect(self.dsn) as connection:
            connection.execute(
                b"DROP TRIGGER witness ON jobs; DROP FUNCTION bear_witness; DROP TABLE witness"
            )


def every_promise_kept(database: Database, ledger: Ledger) -> Iterator[str]:
    """Every job that was answered with 202 has ended, and only as it may."""
    jobs = {str(row[0]): row[1:] for row in database.rows("SELECT id, state, error FROM jobs")}
    for job_id in ledger.jobs.keys() - jobs.keys():
        if ledger.jobs[job_id] not in ledger.deleted:
            yield f"job {job_id} is not there"
    for job_id, (state, error) in jobs.items():
        if state not in ("succeeded", "failed", "cancelled"):
            yield f"job {job_id} is {state}"
        if state == "failed" and error["code"] != FULL:
            yield f"job {job_id} failed: {error}"
        if state == "cancelled" and job_id not in ledger.cancelled:
            yield f"job {job_id} was cancelled by nobody"


def no_image_lost_or_doubled(database: Database, ledger: Ledger) -> Iterator[str]:
    there: dict[str, list[str]] = {}
    for dataset_id, sha256 in database.rows("SELECT dataset_id, sha256 FROM images"):
        there.setdefault(str(dataset_id), []).append(sha256)
    for dataset_id, accepted in ledger.datasets.items():
        if dataset_id in ledger.deleted:
            continue
        if sorted(there.get(dataset_id, [])) != sorted(accepted):
            yield f"dataset {dataset_id} has {len(there.get(dataset_id, []))} of {len(accepted)} images"
    made = Counter(name for (name,) in database.rows("SELECT name FROM datasets"))
    yield from (f"dataset {name!r} was made {n} times" for name, n in made.items() if n > 1)
    yield from (f"dataset {name!r} was made by nobody" for name in made.keys() - ledger.tried)


def one_owner_at_any_time(database: Database) -> Iterator[str]:
    """As the witness saw it: an owner changes only by way of nobody, and only a queued job is claimed."""
    moves = database.rows(MOVES)
    for job_id, old, new, owner, next_owner, attempt, next_attempt in moves:
        if owner is not None and next_owner not in (None, owner):
            yield f"job {job_id} went from {owner} to {next_owner}"
        if owner is None and next_owner is not None and (old, new) != ("queued", "running"):
            yield f"job {job_id} was claimed while {old}"
        if old != new and JobState(new) not in NEXT[JobState(old)]:
            yield f"job {job_id} went from {old} to {new}"
        if next_attempt not in (attempt, attempt + 1, attempt - 1):
            yield f"job {job_id} went from attempt {attempt} to {next_attempt}"
    doubled = "SELECT job_id, count(*) FROM purifications GROUP BY job_id HAVING count(*) > 1"
    yield from (f"job {row[0]} wrote {row[1]} versions" for row in database.rows(doubled))


def every_row_has_its_bytes(database: Database, blobs: Path) -> Iterator[str]:
    for dataset_id, sha256 in database.rows("SELECT dataset_id, sha256 FROM images"):
        path = blobs / image_key(dataset_id, sha256)
        if not path.is_file():
            yield f"the bytes of {path} are lost"
        elif hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            yield f"the bytes of {path} are others"


def orphans(database: Database, blobs: Path) -> list[str]:
    """Blobs of no row, of whatever age; images for a job that never was are the sweeper's, in an hour."""
    images = database.rows("SELECT dataset_id, sha256 FROM images")
    wanted = {key(*image) for image in images for key in (image_key, thumbnail_key)}
    wanted |= {scoring_key(*file) for file in database.rows(WAITING_TO_BE_SCORED)}
    jobs = {str(job_id) for (job_id,) in database.rows("SELECT id FROM jobs")}
    there = {path.relative_to(blobs).as_posix() for path in blobs.rglob("*") if path.is_file()}
    unclaimed = {key for key in there if key.startswith(SCORING_PREFIX) and key.split("/")[1] not in jobs}
    return sorted(there - wanted - unclaimed)


WAITING_TO_BE_SCORED = (
    "SELECT job_id, number FROM job_scores JOIN jobs ON jobs.id = job_id"
    " WHERE state NOT IN ('succeeded', 'failed', 'cancelled')"
)


def the_same_image_has_one_score(ledger: Ledger) -> Iterator[str]:
    for (detector_id, sha256), said in ledger.scores.items():
        if len(said) > 1:
            yield f"detector {detector_id} gave {sorted(said)} for {sha256}"


def books(database: Database, ledger: Ledger, blobs: Path) -> dict[str, list[str]]:
    """What is wrong, by the invariant it breaks."""
    return {
        "every 202 ended": list(every_promise_kept(database, ledger)),
        "no image lost or doubled": list(no_image_lost_or_doubled(database, ledger)),
        "one owner at any time": list(one_owner_at_any_time(database)),
        "every row has its bytes": list(every_row_has_its_bytes(database, blobs)),
        "nothing orphaned after collection": orphans(database, blobs),
        "one score an image": list(the_same_image_has_one_score(ledger)),
    }
