"""Long polls: short looks, and between them sleep that costs neither a thread nor a connection."""

import time
from collections.abc import Callable
from typing import TypeVar

import anyio
from anyio import to_thread
from starlette.requests import ClientDisconnect, Request

from siftline.domain.errors import PurificationNotReady
from siftline.services.purification import is_worth_waiting_for

T = TypeVar("T")
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 1.0


async def until_ready(request: Request, look: Callable[[], T], wait_s: float) -> T:
    """What `look` returns, as soon as it does.

    Raises its PurificationNotReady when the time is up, or at once when no job is on its way that could help.
    """
    deadline = time.monotonic() + wait_s
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            return await to_thread.run_sync(look)
        except PurificationNotReady as error:
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not is_worth_waiting_for(error):
                raise
        if await request.is_disconnected():
            raise ClientDisconnect
        await anyio.sleep(min(pause_s, left_s))
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
