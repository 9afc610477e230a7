"""What an operator should know about an installation, and what to do about it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from importlib.util import find_spec

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from siftline.domain.errors import Unavailable, Unprocessable
from siftline.domain.jobs import Lane
from siftline.schemas import Finding
from siftline.services import readiness
from siftline.settings import GIB, Settings
from siftline.store import census, workers
from siftline.store.blobs import Blobs
from siftline.store.session import now, reading

NEEDED_BYTES = 1 * GIB
WANTED_BYTES = 10 * GIB
SKEW_S = 5.0
WEIGHTS_TIMEOUT_S = 120.0
ELSEWHERE = {"SIFTLINE_URL"}
"""What others than the service read from the environment."""

FIXES = {
    "database": "Is it up, and SIFTLINE_DATABASE_URL right?",
    "migrations": "Run `siftline migrate` with this version, before its API starts.",
    "storage": "Give the user that runs Siftline the right to write there; for a bucket look at "
    "SIFTLINE_S3_ENDPOINT, SIFTLINE_S3_BUCKET and the credentials that boto3 finds.",
    "worker": "Start `siftline worker` with these SIFTLINE_LANES, and read its log.",
    "broker": "Is Redis up, and SIFTLINE_REDIS_URL right? Until then the sweeper cannot ring for jobs.",
}


def diagnose(settings: Settings, sessions: sessionmaker[Session], blobs: Blobs) -> Iterator[Finding]:
    """Everything is looked at, whatever is broken; what takes longest comes last."""
    yield settings_named_wrongly()
    with ThreadPoolExecutor(1) as thread:
        weights = thread.submit(_weights, settings)  # seconds, most of them torch's
        checked = readiness.check(settings, sessions, blobs)
        yield from (_finding(name, told) for name, told in checked.items())
        yield _disk(settings)
        yield from sources_missing(settings)
        if checked["database"] == readiness.OK:
            with suppress(SQLAlchemyError), reading(sessions) as session:  # it went away: the next look tells
                yield from [*_waiting(session, settings), _clock(session)]
        yield weights.result()


def _finding(name: str, told: str) -> Finding:
    if told == readiness.OK:
        return Finding(name=name, state="ok", told=told)
    if told == readiness.UNKNOWN:
        return Finding(name=name, state="warning", told=told, fix="See `database`.")
    if told == readiness.NO_TABLES:
        return Finding(name=name, state="warning", told=told, fix="See `migrations`.")
    return Finding(name=name, state="failure", told=told, fix=FIXES[name])


def settings_named_wrongly() -> Finding:
    """Variables that nobody reads: a typing error there goes unnoticed for long."""
    known = {f"SIFTLINE_{name.upper()}" for name in Settings.model_fields} | ELSEWHERE
    unknown = sorted(name for name in os.environ if name.startswith("SIFTLINE_") and name not in known)
    if not unknown:
        return Finding(name="settings", state="ok", told="ok")
    told = f"{', '.join(unknown)}: there is no such setting"
    return Finding(name="settings", state="warning", told=told, fix="Look the name up in docs/settings.md.")


def _disk(settings: Settings) -> Finding:
    try:
        free = shutil.disk_usage(settings.data_dir).free
    except OSError as error:
        told = f"{settings.data_dir}: {(error.strerror or 'unreadable').lower()}"
        return Finding(name="disk", state="failure", told=told, fix="Look at SIFTLINE_DATA_DIR.")
    told = f"{free / GIB:.1f} GiB free at {settings.data_dir.resolve()}"
    if free >= WANTED_BYTES:
        return Finding(name="disk", state="ok", told=told)
    return Finding(
        name="disk",
        state="failure" if free < NEEDED_BYTES else "warning",
        told=told,
        fix="Make room: `siftline gc`, a smaller SIFTLINE_FEATURES_MAX_BYTES, or a larger volume.",
    )


def sources_missing(settings: Settings) -> Iterator[Finding]:
    """Folders and buckets that `source.uri` may name, and that cannot be read."""
    fix = "Mend SIFTLINE_SOURCE_ROOTS or SIFTLINE_SOURCE_BUCKETS, or what they name; see docs/operate.md."
    wrong = [str(root) for root in settings.source_roots if not os.access(root, os.R_OK | os.X_OK)]
    wrong += [folder for folder in settings.source_buckets if not _is_readable(folder, settings)]
    if wrong:
        yield Finding(name="sources", state="failure", told=f"cannot be read: {', '.join(wrong)}", fix=fix)
    elif settings.source_roots or settings.source_buckets:
        yield Finding(name="sources", state="ok", told="ok")


def _is_readable(folder: str, settings: Settings) -> bool:
    if find_spec("boto3") is None:
        return False
    from siftline.store.s3 import HASTY  # noqa: PLC0415 - an extra
    from siftline.store.source_bucket import SourceBucket  # noqa: PLC0415 - an extra

    name, _, place = folder.removesuffix("/").partition("/")
    try:
        with SourceBucket(settings, name, HASTY) as bucket:
            next(bucket.listed(f"{place}/" if place else ""), None)
    except (Unavailable, Unprocessable):
        return False
    return True


def _weights(settings: Settings) -> Finding:
    """In a process of its own: the service never loads torch."""
    if find_spec("torch") is None:
        told = "this is no worker: its packages are not installed here"
        return Finding(name="weights", state="ok", told=told)
    command = [sys.executable, "-m", "siftline_workers.look_at_weights"]
    environment = os.environ | {"SIFTLINE_DATA_DIR": str(settings.data_dir.resolve())}
    try:
        looked = subprocess.run(  # noqa: S603 - our own module, no shell
            command, capture_output=True, text=True, timeout=WEIGHTS_TIMEOUT_S, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        told = f"loading them takes more than {WEIGHTS_TIMEOUT_S:g} s"
        return Finding(name="weights", state="warning", told=told, fix="Is this machine very busy?")
    if looked.returncode == 0:
        return Finding(name="weights", state="ok", told=looked.stdout.strip())
    told = looked.stdout.strip() or "the worker's packages do not load"
    fix = "Put the file into SIFTLINE_WEIGHTS_DIR, or set SIFTLINE_BACKBONE=lite."
    return Finding(name="weights", state="failure", told=told, fix=fix)


def _waiting(session: Session, settings: Settings) -> Iterator[Finding]:
    """Jobs that nobody will ever take."""
    for lane, count, oldest in census.queues(session):
        if not workers.serving(session, Lane(lane), 2 * settings.lease_s):
            told = f"{count} jobs wait in the lane {lane}, the oldest since {oldest:%Y-%m-%d %H:%M} UTC"
            fix = f'Start a worker with SIFTLINE_LANES=["{lane}"].'
            yield Finding(name=f"lane-{lane}", state="failure", told=told, fix=fix)
    held, expired = census.leases(session)
    if expired:
        told = f"{expired} of {held} jobs in hand have a worker that fell silent"
        yield Finding(
            name="leases", state="warning", told=told, fix="Is `siftline sweeper` running? It repairs this."
        )


def _clock(session: Session) -> Finding:
    skew_s = abs((now(session) - datetime.now(UTC)).total_seconds())
    if skew_s < SKEW_S:
        return Finding(name="clock", state="ok", told="ok")
    told = f"this machine's clock and the database's are {skew_s:.0f} s apart"
    return Finding(name="clock", state="warning", told=told, fix="Synchronise both (NTP).")
