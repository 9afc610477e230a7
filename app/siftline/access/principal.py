"""Who is asking."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated

from fastapi import Depends, Request

from siftline.domain.keys import DEFAULT_WORKSPACE


class Role(IntEnum):
    """What somebody may do; each may do all that the ones before may."""

    VIEWER = 1
    """Read everything."""
    REVIEWER = 2
    """Decide about images."""
    OPERATOR = 3
    """Upload, purify, train, score, cancel."""
    ADMIN = 4
    """Delete, and make keys."""


@dataclass(frozen=True, slots=True)
class Principal:
    name: str
    role: Role
    workspace: str = DEFAULT_WORKSPACE
    owner: bool = False
    """Runs the installation: has the keys and the log of all workspaces, and the data of one like anybody."""


LOCAL = Principal("local", Role.ADMIN, owner=True)
"""Whoever works on this machine while there is no key."""
SETTINGS_KEY = Principal("settings-key", Role.ADMIN, owner=True)
NOBODY = Principal("nobody", Role.VIEWER, workspace="")
"""Asks for what is open to everybody; no row belongs to its workspace."""


async def get_principal(request: Request) -> Principal:
    principal: Principal = request.scope["state"]["principal"]
    return principal


PrincipalDep = Annotated[Principal, Depends(get_principal)]
