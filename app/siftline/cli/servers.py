"""Commands that run parts of the service: serve, api, worker, sweeper, migrate."""

import logging
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from siftline.cli.database import upgrade
from siftline.cli.output import say
from siftline.domain.errors import Conflict, Unprocessable
from siftline.logs import set_up_logging
from siftline.settings import Settings

DataDir = Annotated[
    Path | None, typer.Option(help="Folder for database, blobs and caches.", envvar="SIFTLINE_DATA_DIR")
]
Host = Annotated[str | None, typer.Option(help="Address to listen on.", envvar="SIFTLINE_HOST")]
Port = Annotated[
    int | None, typer.Option(min=0, max=65535, help="Port; 0 picks a free one.", envvar="SIFTLINE_PORT")
]


def add_to(app: typer.Typer) -> None:
    for command in (serve, api, worker, sweeper, migrate):
        app.command()(command)


def settings_from(**given: Any) -> Settings:
    """The environment's settings, with what the command line gives on top. Raises Unprocessable."""
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise Unprocessable("; ".join(map(_wrong, error.errors()))) from error


def _wrong(error: ErrorDetails) -> str:
    """What is wrong with settings that do not go together names them itself."""
    told = error["msg"].removeprefix("Value error, ")
    return f"SIFTLINE_{'.'.join(map(str, error['loc'])).upper()}: {told}" if error["loc"] else told


def serve(data_dir: DataDir = None, host: Host = None, port: Port = None) -> None:
    """Start the API and one worker on this machine; Ctrl-C stops both, the next start resumes."""
    from siftline.cli.folder import hold
    from siftline.cli.supervisor import Supervisor

    settings = settings_from(data_dir=data_dir, host=host, port=port)
    require_worker_packages()
    _refuse_open_door(settings)
    _unwind_on_signals()
    with hold(settings.data_dir), _listen(settings) as door:
        upgrade(settings)
        with Supervisor(settings):
            _run_api(settings, door)


def api(data_dir: DataDir = None, host: Host = None, port: Port = None) -> None:
    """Start only the API: production, where workers run elsewhere and `siftline migrate` has been run."""
    settings = settings_from(data_dir=data_dir, host=host, port=port)
    _refuse_open_door(settings)
    _unwind_on_signals()
    with _listen(settings) as door:
        _run_api(settings, door)


def worker(data_dir: DataDir = None) -> None:
    """Start one worker: Celery's when SIFTLINE_REDIS_URL is set, else one that polls the job table."""
    from siftline.cli.supervisor import worker_command, worker_environment

    settings = settings_from(data_dir=data_dir)
    require_worker_packages()
    command = worker_command(settings)
    # Replaces this process: signals from a container reach the worker itself.
    os.execve(command[0], command, worker_environment(settings))  # noqa: S606 - our own module, no shell


def sweeper(data_dir: DataDir = None) -> None:
    """Ring again for stranded jobs, and requeue those whose worker is gone. Production runs one."""
    from siftline.sweeper import run_forever

    settings = settings_from(data_dir=data_dir)
    set_up_logging(settings.log_format, settings.log_level)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    run_forever(settings, stop)


def migrate(data_dir: DataDir = None) -> None:
    """Bring the database to the schema of this version."""
    from siftline.store.migrate import head

    upgrade(settings_from(data_dir=data_dir))
    say(f"The database is at revision {head()}")


def _run_api(settings: Settings, door: socket.socket) -> None:
    import uvicorn

    from siftline.main import create_app

    set_up_logging(settings.log_format, settings.log_level)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        log_config=None,  # its lines go our way
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=settings.drain_s,
        server_header=False,
    )
    host, port = door.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    say(f"Siftline is at http://{shown}:{port} (docs at /docs). Data: {settings.data_dir.resolve()}")
    try:
        uvicorn.Server(config).run(sockets=[door])
    finally:
        if app.state.parts.scoring.is_working:
            # A thread that hangs would be waited for for ever. Our worker stops when this process does.
            logging.shutdown()
            os._exit(0)


def _unwind_on_signals() -> None:
    """SIGINT and SIGTERM leave through our `with` blocks: uvicorn raises them again once it has closed."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)


def _stop(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)


def _listen(settings: Settings) -> socket.socket:
    """The bound socket. Raises Conflict when the port is taken."""
    try:
        family, _, _, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise Unprocessable(f"{settings.host!r} is not an address of this machine") from error
    door = socket.socket(family, socket.SOCK_STREAM)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        door.bind(address)
    except OSError as error:
        door.close()
        raise Conflict(
            f"Cannot listen on {settings.host} port {settings.port}: {(error.strerror or '').lower()}. "
            "Stop what uses it, or choose another: --port 0 picks a free one."
        ) from error
    door.listen()  # from now on callers wait instead of being refused, also while the application starts
    return door


def _refuse_open_door(settings: Settings) -> None:
    from siftline.access.gate import is_loopback
    from siftline.cli.database import opened_database
    from siftline.store import keys

    if settings.api_key is not None or is_loopback(settings.host):
        return
    with opened_database(settings) as session:
        is_locked = keys.count_valid(session) > 0
    if not is_locked:
        raise Unprocessable(
            f"Refusing to serve {settings.host} without a key: anybody on the network could read and delete. "
            "Make one (siftline key create NAME --role admin --local), set SIFTLINE_API_KEY, or listen on "
            "127.0.0.1."
        )


def require_worker_packages() -> None:
    from importlib.util import find_spec

    missing = [name for name in ("torch", "timm", "faiss", "openvino") if find_spec(name) is None]
    if missing:
        raise Unprocessable(
            f"A worker needs {', '.join(missing)}. Install it: pip install 'siftline[worker]'. "
            "(`siftline api` runs without.)"
        )
