"""Who is asking."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated

from fastapi import Depends, Request


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


LOCAL = Principal("local", Role.ADMIN)
"""Whoever works on this machine while there is no key."""


async def get_principal(request: Request) -> Principal:
    principal: Principal = request.scope["state"]["principal"]
    return principal


PrincipalDep = Annotated[Principal, Depends(get_principal)]
