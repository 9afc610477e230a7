"""More requests than can be answered soon: the last to come are told so at once."""

from anyio import to_thread
from starlette.types import ASGIApp, Receive, Scope, Send

from siftline.domain.errors import Unavailable

ALWAYS = {
    "/healthz",
    "/readyz",
    "/metrics",
}  # whoever watches must see it, or would restart what is only busy


class Busy(Unavailable):
    code = "busy"
    title = "The service has more to do than it can"


class Crowd:
    """ASGI middleware. Refuses while `most_waiting` requests wait for a thread: raises Busy.

    What only sleeps (long polls, event streams) or is on its way in (bodies) holds no thread and does not
    count. Scoring has a line of its own, and so have uploads once they are here.
    """

    def __init__(self, app: ASGIApp, most_waiting: int) -> None:
        self.app = app
        self.most_waiting = most_waiting

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in ALWAYS:
            waiting = to_thread.current_default_thread_limiter().statistics().tasks_waiting
            if waiting >= self.most_waiting:
                raise Busy(f"{waiting} requests are waiting already.", retry_after_s=1)
        await self.app(scope, receive, send)
