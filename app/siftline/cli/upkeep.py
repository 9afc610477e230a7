"""Commands for who runs an installation: doctor, gc. Both work on the database and the storage themselves."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from siftline.cli.database import opened_database
from siftline.cli.options import AsJson
from siftline.cli.output import out, print_json, say
from siftline.cli.servers import DataDir, settings_from
from siftline.domain.errors import SiftlineError
from siftline.schemas import Collected, Finding
from siftline.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, sessionmaker

COLOURS = {"ok": "green", "warning": "yellow", "failure": "red"}


def add_to(app: typer.Typer) -> None:
    app.command()(doctor)
    app.command()(gc)


def doctor(data_dir: DataDir = None, *, as_json: AsJson = False) -> None:
    """Look at settings, database, broker, storage, disk, workers and weights; say what to do. 1: trouble."""
    found = []
    for finding in _findings(data_dir):
        found.append(finding)
        if not as_json:
            _show(finding)
    if as_json:
        print_json(found)
    if any(finding.state == "failure" for finding in found):
        raise typer.Exit(1)


def _findings(data_dir: DataDir) -> Iterator[Finding]:
    from siftline.services.diagnosis import diagnose, settings_named_wrongly
    from siftline.store.blobs_open import open_blobs

    try:
        settings = settings_from(data_dir=data_dir)
        blobs = open_blobs(settings, hasty=True)
    except SiftlineError as error:
        fix = "Mend the variable; docs/settings.md has a table of all."
        yield Finding(name="settings", state="failure", told=error.detail, fix=fix)
        named = settings_named_wrongly()
        if named.state != "ok":
            yield named
        return
    with _sessions(settings, connect_timeout_s=2) as sessions:
        yield from diagnose(settings, sessions, blobs)


def _show(finding: Finding) -> None:
    """One by one, as they are found: the last may take half a minute."""
    mark = f"[{COLOURS[finding.state]}]{finding.state:8}[/]"
    fix = f"\n{'':21}→ {escape(finding.fix)}" if finding.fix else ""
    out.print(f"{mark} {finding.name:11} {escape(finding.told)}{fix}", soft_wrap=True, highlight=False)


def gc(
    data_dir: DataDir = None,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Even when most images in the storage have no row.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Remove what nobody needs any more; the sweeper does it by itself every SIFTLINE_GC_S seconds."""
    from siftline.garbage import collect
    from siftline.store.blobs_open import open_blobs

    settings = settings_from(data_dir=data_dir)
    with opened_database(settings):
        pass  # it is there, and of this version
    with _sessions(settings) as sessions:
        freed = collect(sessions, settings, open_blobs(settings), dry_run=dry_run, everything=everything)
    told = [
        Collected(kind=kind, count=what.count, bytes=what.bytes, held_back=what.held_back)
        for kind, what in freed.items()
    ]
    if as_json:
        print_json(told)
    else:
        for what in told:
            say(f"{what.kind}: {what.count} {'would go' if dry_run else 'gone'}, {what.bytes} bytes")
    if any(what.held_back for what in told):
        say(
            "Most images in the storage have no row in this database, so they were left: is it the right "
            "one, or an old backup? If they are really not needed: siftline gc --all"
        )
        raise typer.Exit(1)


@contextmanager
def _sessions(settings: Settings, connect_timeout_s: int = 5) -> "Iterator[sessionmaker[Session]]":
    from siftline.store.session import make_engine, session_factory

    settings.data_dir.mkdir(parents=True, exist_ok=True)
    engine = make_engine(settings.sqlalchemy_url, connect_timeout_s=connect_timeout_s)
    try:
        yield session_factory(engine)
    finally:
        engine.dispose()
