"""Every list is read through an index, in its order: asked of the databases' own planners, on both."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, event, text
from sqlalchemy.orm import Session, sessionmaker

from siftline.store import cursor
from tests.integration.api.conftest import made, png
from tests.integration.api.test_answers import write_version

LARGE = ("images", "receipts", "purified_items", "jobs", "job_moves", "job_scores", "audit_log")
IN_ORDER = (
    *("/datasets", "/datasets?cursor={id}", "{dataset}/images", "{dataset}/images?cursor={id}"),
    *("{dataset}/images?verdict=suspect", "{dataset}/images?review=reject", "{dataset}/images?min_score=0.9"),
    *("{dataset}/receipts", "{dataset}/receipts?cursor={id}", "{dataset}/receipts?status=rejected"),
    *("{dataset}/purified", "{dataset}/purified?cursor={rank}", "{dataset}/purified?verdict=suspect"),
    *("{dataset}/purified?order=disputed", "{dataset}/purified?order=disputed&cursor={disputed}"),
    *("{dataset}/reviews", "/jobs", "/jobs?cursor={id}", "/jobs?dataset_id={dataset_id}"),
    *("/detectors", "/audit"),
)
BY_INDEX = (
    *(
        "{dataset}",
        "/detectors?dataset_id={dataset_id}",
        "{dataset}/purified?review=reject",
        "{dataset}/purified?review=any",
        "/jobs?state=failed",
    ),
    *("{dataset}/purified/histogram", "{dataset}/purified/diff?from=1&to=1", "/d/{dataset_id}/tally"),
    "/metrics",
)

Statement = tuple[str, Any]


@contextmanager
def listened() -> Iterator[list[Statement]]:
    heard: list[Statement] = []

    def hear(_connection: Any, _cursor: Any, statement: str, given: Any, *_: Any) -> None:
        if statement.lstrip().startswith("SELECT"):
            heard.append((statement, given))

    event.listen(Engine, "before_cursor_execute", hear)  # the service has an engine of its own
    yield heard
    event.remove(Engine, "before_cursor_execute", hear)


@pytest.fixture
def places(api: TestClient, sessions: sessionmaker[Session]) -> dict[str, str]:
    """A dataset with a version, and cursors into its lists."""
    dataset_id = made(api, *[(f"{i}.png", png(i, (20, 20))) for i in range(4)])["dataset"]["id"]
    path = f"/datasets/{dataset_id}"
    ids = [image["id"] for image in api.get(f"{path}/images").json()["items"]]
    write_version(sessions, dataset_id, ids, suspects=1)
    return {
        "dataset": path,
        "dataset_id": dataset_id,
        "id": cursor.encode(cursor.AfterId(id=UUID(ids[1]))),
        "rank": cursor.encode(cursor.AfterRank(version=1, rank=1)),
        "disputed": cursor.encode(cursor.AfterDisputed(version=1, rank=1, confidence=0.5)),
    }


def test_lists_are_read_in_the_order_of_an_index(
    api: TestClient, engine: Engine, places: dict[str, str]
) -> None:
    for template in IN_ORDER:
        for statement in asked_for(api, template.format(**places)):
            lines = plan(engine, statement)
            assert not scanned(lines), (template, statement, lines)
            if "LIMIT" in statement[0]:
                assert not sorts(lines), (template, statement, lines)


def test_nothing_reads_a_large_table_from_end_to_end(
    api: TestClient, engine: Engine, places: dict[str, str]
) -> None:
    for template in BY_INDEX:
        for statement in asked_for(api, template.format(**places)):
            assert not scanned(lines := plan(engine, statement)), (template, statement, lines)


def test_the_rejected_are_found_by_what_was_decided_and_not_by_walking_the_version(
    api: TestClient, engine: Engine, places: dict[str, str]
) -> None:
    ((statement, given),) = [
        (statement, given)
        for statement, given in asked_for(api, f"{places['dataset']}/purified?review=reject")
        if "purified_items.rank" in statement and "LIMIT" in statement
    ]
    assert any("review" in line for line in plan(engine, (statement, given))), plan(
        engine, (statement, given)
    )


def asked_for(api: TestClient, path: str) -> list[Statement]:
    """The SELECTs that answer a request."""
    with listened() as heard:
        answer = api.get(path)
    assert answer.status_code == 200, answer.text
    assert heard
    return heard


def plan(engine: Engine, statement: Statement) -> list[str]:
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement[0]}", statement[1])
            return [str(row[3]) for row in rows]
        # On a small table a scan is the right plan: forbidden, it is taken only where no index would do.
        connection.execute(text("SET enable_seqscan = off"))
        connection.execute(text("SET enable_sort = off"))
        return [str(row[0]) for row in connection.exec_driver_sql(f"EXPLAIN {statement[0]}", statement[1])]


def scanned(lines: list[str]) -> list[str]:
    """The large tables that are read from end to end."""
    whole = re.compile(r"(?:Seq Scan on|SCAN) (\w+)(.*)")
    found = [match for line in lines if (match := whole.search(line))]
    return [m[1] for m in found if m[1] in LARGE and "USING" not in m[2]]


def sorts(lines: list[str]) -> bool:
    return any("Sort" in line or "TEMP B-TREE FOR ORDER BY" in line for line in lines)
