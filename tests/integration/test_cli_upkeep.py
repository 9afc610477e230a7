"""`siftline doctor` and `siftline gc`: what an operator is told."""

import json
import os
import time
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, sessionmaker

from siftline.domain.jobs import JobKind, Lane
from siftline.schemas import Collected, Finding
from siftline.services import diagnosis
from siftline.services.diagnosis import diagnose
from siftline.services.readiness import NO_TABLES
from siftline.settings import Settings
from siftline.store import jobs, workers
from siftline.store.blobs_local import LocalBlobs
from siftline.store.migrate import upgrade
from siftline.store.session import make_engine, session_factory, transaction
from siftline.store.workers import Capacity
from siftline_workers.outage import Outage
from tests.conftest import free_port
from tests.integration.commands import run
from tests.integration.job_steps import add_dataset
from tests.integration.served import siftline

PATIENT = {"SIFTLINE_LEASE_S": "3600"}
"""However slow the machine, no worker falls silent."""


def test_doctor_finds_nothing_wrong_where_nothing_is(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    upgrade(settings)
    engine = make_engine(settings.sqlalchemy_url)
    with transaction(session_factory(engine)) as session:
        workers.beat(session, "w")
    engine.dispose()

    told = siftline("doctor", "--json", "--data-dir", settings.data_dir, SIFTLINE_SCORE_QUEU="9", **PATIENT)
    assert told.returncode == 0, told.stdout
    found = {finding["name"]: Finding.model_validate(finding) for finding in json.loads(told.stdout)}
    assert set(found) == {
        "settings", "database", "migrations", "storage", "worker", "disk", "weights", "clock",
    }  # fmt: skip
    assert {name for name, finding in found.items() if finding.state != "ok"} <= {"settings", "disk"}
    assert "SIFTLINE_SCORE_QUEU:" in found["settings"].told
    assert found["weights"].told.startswith("lite: ")


def test_doctor_names_the_setting_that_is_wrong() -> None:
    told = siftline("doctor", SIFTLINE_PORT="http")
    assert told.returncode == 1
    assert "SIFTLINE_PORT" in told.stdout


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_doctor_says_what_is_broken_and_how_to_mend_it(
    sessions: sessionmaker[Session], settings: Settings, tmp_path: Path
) -> None:
    dataset_id = add_dataset(sessions)
    with transaction(sessions) as session:
        jobs.create(session, dataset_id, JobKind.PURIFY, {}, lane=Lane.GPU)
        workers.beat(session, "w", Capacity(lanes=(Lane.HEAVY,)))
    in_the_way = tmp_path / "a file"
    in_the_way.touch()
    broken = settings.model_copy(
        update={
            "redis_url": f"redis://127.0.0.1:{free_port()}/0",
            "backbone": "wrn50",
            "data_dir": in_the_way / "data",
            "lease_s": 3600.0,
        }
    )
    os.environ["SIFTLINE_BACKBONE"] = "wrn50"
    try:
        found = {f.name: f for f in diagnose(broken, sessions, LocalBlobs(broken.blobs_dir))}
    finally:
        del os.environ["SIFTLINE_BACKBONE"]
    failing = {name for name, finding in found.items() if finding.state == "failure"}
    assert failing == {"storage", "worker", "broker", "disk", "weights", "lane-gpu"}
    assert all(found[name].fix for name in failing)
    assert "light" in found["worker"].told
    assert "wide_resnet50_2" in found["weights"].told


def test_a_database_that_is_away_is_waited_for_once_and_nothing_is_blamed_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(data_dir=tmp_path, database_url=f"postgresql+psycopg://x@127.0.0.1:{free_port()}/x")
    for ours in ("weights", "disk"):  # what this machine has of them is not asked here
        monkeypatch.setattr(diagnosis, f"_{ours}", lambda _, n=ours: Finding(name=n, state="ok", told="ok"))
    engine, asked = make_engine(settings.sqlalchemy_url), []

    def hear(*given: object) -> None:
        asked.append(given)

    event.listen(engine, "do_connect", hear)
    found = list(diagnose(settings, session_factory(engine), LocalBlobs(tmp_path / "blobs")))
    assert [f.name for f in found if f.state == "failure"] == ["database"]
    assert [f.name for f in found if f.state == "warning"] == ["migrations", "worker"]
    assert len(asked) == 1


def test_of_a_database_without_tables_nobody_says_that_it_does_not_answer(tmp_path: Path) -> None:
    told = run("doctor", "--json", "--data-dir", tmp_path, SIFTLINE_BACKBONE="lite")
    assert told.returncode == 1
    found = {finding["name"]: Finding.model_validate(finding) for finding in json.loads(told.stdout)}
    assert {name: found[name].state for name in ("database", "migrations", "worker")} == {
        "database": "ok", "migrations": "failure", "worker": "warning"
    }  # fmt: skip
    assert "`siftline migrate`" in found["migrations"].told
    assert found["worker"].told == NO_TABLES


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_doctor_names_the_sources_that_cannot_be_read(
    settings: Settings, s3_settings: Settings, tmp_path: Path
) -> None:
    def told(**sources: object) -> list[tuple[str, str]]:
        changed = settings.model_copy(update={"s3_endpoint": s3_settings.s3_endpoint, **sources})
        return [(found.state, found.told) for found in diagnosis.sources_missing(changed)]

    there, gone = f"{s3_settings.s3_bucket}/line", tmp_path / "gone"
    assert told() == []
    assert told(source_roots=(tmp_path,), source_buckets=(there,)) == [("ok", "ok")]
    wrong = told(source_roots=(tmp_path, gone), source_buckets=(there, "no-such-bucket"))
    assert wrong == [("failure", f"cannot be read: {gone}, no-such-bucket")]


def test_a_worker_says_once_that_the_database_is_away_and_once_that_it_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    outage = Outage(Settings(database_url="postgresql+psycopg://me:hidden@db/x"))
    for _ in range(2):
        outage.is_over()
        for _ in range(3):
            outage.goes_on(OperationalError("", {}, OSError()))
    outage.is_over()
    told = [record.getMessage() for record in caplog.records]
    assert ["does not answer" in line for line in told] == [True, False, True, False]
    assert "me:***@db/x" in told[0]
    assert "hidden" not in caplog.text


def test_gc_counts_first_and_removes_when_asked(tmp_path: Path) -> None:
    orphan = tmp_path / "data" / "blobs" / "datasets" / "01890000-0000-7000-8000-000000000000" / ("a" * 64)
    orphan.parent.mkdir(parents=True)
    orphan.write_bytes(b"lost")
    os.utime(orphan, (0, time.time() - 1e6))
    for options, is_there in ((["--dry-run"], True), ([], False)):
        told = siftline("gc", "--json", "--data-dir", tmp_path / "data", *options)
        assert told.returncode == 0, told.stderr
        assert orphan.exists() == is_there
        assert Collected(kind="blobs", count=1, bytes=4, held_back=False) in [
            Collected.model_validate(what) for what in json.loads(told.stdout)
        ]
