"""`siftline key`: who may come in. With `--local` without a server, for when nobody has a key yet."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer
from rich.markup import escape
from rich.table import Table

from siftline.cli.database import LOCAL_USER, opened_database
from siftline.cli.options import AsJson, Key, Url, connected
from siftline.cli.output import out, print_json, say
from siftline.cli.servers import DataDir, settings_from
from siftline.client import DEFAULT_URL, Client
from siftline.schemas import Key as ApiKey
from siftline.schemas import KeyCreated, NewKey, RoleName, RotateKey

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

Local = Annotated[
    bool, typer.Option("--local", help="Work on this machine's database itself: no server, no key needed.")
]
KeyId = Annotated[UUID, typer.Argument(help="Id of the key.")]

group = typer.Typer(help="Make, list, rotate and revoke API keys.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    app.add_typer(group, name="key")
    group.command("list")(every)
    for command in (create, rotate, revoke):
        group.command()(command)


def create(
    name: Annotated[str, typer.Argument(help="Who or what holds it; decisions are signed with this.")],
    *,
    role: Annotated[RoleName, typer.Option(help="Each may do what the ones before may.")] = "viewer",
    workspace: Annotated[
        str | None, typer.Option(help="What it opens; by default where the key that makes it is.")
    ] = None,
    local: Local = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Make a key. It is printed this once and kept nowhere. With the first, nobody enters without one."""
    with _keys("siftline key create", url, api_key, data_dir, local=local) as keys:
        created = keys.create_key(name, role, workspace)
    _show(created, as_json=as_json)


def every(
    *,
    local: Local = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Show all keys ever made, newest first; never the keys themselves."""
    with _keys(None, url, api_key, data_dir, local=local) as keys:
        found = keys.keys()
    if as_json:
        print_json(found)
    elif found:
        _print_table(found)
    else:
        say("There are no keys. To make the first: siftline key create NAME --role admin")


def rotate(
    key: KeyId,
    *,
    grace_s: Annotated[
        float, typer.Option("--grace", min=0, help="Seconds that the old one stays good beside the new one.")
    ] = 0,
    local: Local = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Give a key another secret, printed this once; the old one ends now, or after --grace."""
    with _keys("siftline key rotate", url, api_key, data_dir, local=local) as keys:
        rotated = keys.rotate_key(key, grace_s)
    _show(rotated, as_json=as_json)


def revoke(
    key: KeyId,
    *,
    local: Local = False,
    data_dir: DataDir = None,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Make a key open nothing any more, within seconds."""
    with _keys("siftline key revoke", url, api_key, data_dir, local=local) as keys:
        keys.revoke_key(key)
    say(f"Key {key} is revoked")


@dataclass(frozen=True, slots=True)
class _LocalKeys:
    """What `Client` does with keys, without a server: by the services, in one transaction."""

    session: "Session"

    def create_key(self, name: str, role: RoleName, workspace: str | None) -> KeyCreated:
        from siftline.services import keys

        new = NewKey(name=name, role=role, workspace=workspace)
        return keys.create(self.session, new, by=LOCAL_USER)

    def keys(self) -> Sequence[ApiKey]:
        from siftline.services import keys

        return keys.every(self.session)

    def rotate_key(self, key_id: UUID, grace_s: float) -> KeyCreated:
        from siftline.services import keys

        return keys.rotate(self.session, key_id, RotateKey(grace_s=grace_s), by=LOCAL_USER)

    def revoke_key(self, key_id: UUID) -> None:
        from siftline.services import keys

        keys.revoke(self.session, key_id, by=LOCAL_USER)


@contextmanager
def _keys(
    action: str | None, url: str, api_key: str | None, data_dir: Path | None, *, local: bool
) -> Iterator[Client | _LocalKeys]:
    """The server's, or with `local` this machine's; an `action` that is done here is written into the log."""
    if not local:
        with connected(url, api_key) as client:
            yield client
        return
    settings = settings_from(data_dir=data_dir)
    if action is not None and settings.database_url is None:
        say(f"In the database of {settings.data_dir.resolve()}")
    with opened_database(settings, action) as session:
        yield _LocalKeys(session)


def _show(created: KeyCreated, *, as_json: bool) -> None:
    if as_json:
        print_json(created)
    else:
        say(f"{created.role} key for {created.name} in {created.workspace}, shown this once:")
        out.print(created.key, markup=False, highlight=False)


def _print_table(keys: Sequence[ApiKey]) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("id", "workspace", "name", "role", "made", "rotated", "last used", "revoked"):
        table.add_column(heading, no_wrap=True)
    for key in keys:
        times = (key.created_at, key.rotated_at, key.last_used_at, key.revoked_at)
        table.add_row(
            str(key.id),
            key.workspace,
            escape(key.name),
            key.role,
            *("" if at is None else f"{at:%Y-%m-%d %H:%M}" for at in times),
        )
    out.print(table)
