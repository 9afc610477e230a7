"""`siftline audit`: who changed what, when, from where."""

from itertools import islice
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from siftline.cli.options import AsJson, Key, Url, connected
from siftline.cli.output import out, print_json, say
from siftline.client import DEFAULT_URL


def audit(
    *,
    limit: Annotated[int, typer.Option(min=1, help="Entries to show.")] = 50,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Show who changed what, newest first. It takes an admin's key."""
    with connected(url, api_key) as client:
        found = list(islice(client.audit(), limit))
    if as_json:
        print_json(found)
        return
    if not found:
        say("Nothing was changed yet")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("when", "workspace", "who", "from", "what", "of"):
        table.add_column(heading, overflow="fold")
    for entry in found:
        when = f"{entry.at:%Y-%m-%d %H:%M:%S}"
        told = (entry.workspace, entry.who, entry.client, entry.action, "\n".join(entry.objects))
        table.add_row(when, *(escape(word) for word in told))
    out.print(table)
