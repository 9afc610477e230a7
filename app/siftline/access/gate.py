"""Who may come in. With keys: whoever shows one, or a cookie made from one. Without: this machine only.

A page on the web can make a browser on this machine call us: through a name that resolves to 127.0.0.1 (Host
tells) or from a form of its own (Origin tells). The same Origin rule guards those who come with a cookie.
"""

from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from math import ceil
from urllib.parse import quote, urlsplit

from anyio import to_thread
from starlette.datastructures import Headers
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from siftline.access.keyring import Keyring
from siftline.access.principal import LOCAL, Principal
from siftline.access.rate import Rate
from siftline.domain.errors import Forbidden, TooManyRequests, Unauthorized, Unavailable
from siftline.store.session import DATABASE_AWAY

COOKIE = "siftline_session"
OPEN_PATHS = {"/healthz", "/readyz", "/signin"}  # probes carry no keys
OPEN_FOLDER = "/static/"  # the page's styles and scripts: no secret, and the sign-in page needs them
READING = {"GET", "HEAD", "OPTIONS"}
KEY_WANTED = (
    "Send an API key as `Authorization: Bearer <key>` or `X-API-Key: <key>`; "
    "the command line takes it from SIFTLINE_API_KEY."
)
KEY_UNKNOWN = "This API key opens nothing here: it is mistyped, revoked, or of another installation."


class Gate:
    """ASGI middleware. Raises Unauthorized, Forbidden, TooManyRequests for the error middleware around it."""

    def __init__(self, app: ASGIApp, keyring: Keyring, rate: Rate) -> None:
        self.app = app
        self.keyring = keyring
        self.rate = rate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            pass
        elif is_open(scope["path"]):
            _refuse_other_origins(Headers(scope=scope))
        else:
            try:
                principal = await self._judged(scope)
            except DATABASE_AWAY as error:
                raise Unavailable("The database does not answer right now.", retry_after_s=5) from error
            except Unauthorized:
                if not _wants_page(scope):
                    raise
                there = f"/signin?next={quote(scope['path'], safe='/')}"
                await RedirectResponse(there, status_code=303)(scope, receive, send)
                return
            if principal is not LOCAL:
                self._count(principal)
            scope.setdefault("state", {})["principal"] = principal
        await self.app(scope, receive, send)

    def _count(self, principal: Principal) -> None:
        wait_s = self.rate.take((principal.workspace, principal.name))
        if wait_s > 0:
            raise TooManyRequests(
                f"The key {principal.name!r} asks more often than it may.", retry_after_s=ceil(wait_s)
            )

    async def _judged(self, scope: Scope) -> Principal:
        # A thread costs a scoring request two changes of thread, each behind whatever the processor is at.
        if self.keyring.believes(_shown_key(Headers(scope=scope))):
            return self._principal(scope)
        return await to_thread.run_sync(self._principal, scope)

    def _principal(self, scope: Scope) -> Principal:
        headers = Headers(scope=scope)
        if not self.keyring.is_needed():
            _refuse_strangers(scope, headers)
            return LOCAL
        if (key := _shown_key(headers)) is not None:
            principal = self.keyring.holder_of(key)
        else:
            principal = self.keyring.holder_of_cookie(_cookie(headers))
            if principal is not None and scope["method"] not in READING:
                _refuse_other_origins(headers, may_be_missing=False)
        if principal is None:
            raise Unauthorized(KEY_WANTED if key is None else KEY_UNKNOWN)
        return principal


def is_open(path: str) -> bool:
    """Whether anybody may ask for it. Dots are no way out: Starlette never resolves them."""
    return path in OPEN_PATHS or path.startswith(OPEN_FOLDER)


def _shown_key(headers: Headers) -> str | None:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        shown: str | None = token.strip()
    else:
        shown = headers.get("x-api-key")
    # Headers arrive as Latin-1, whatever bytes were sent.
    return None if shown is None else shown.encode("latin-1").decode("utf-8", "surrogateescape")


def _cookie(headers: Headers) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return "" if found is None else found.value


def _wants_page(scope: Scope) -> bool:
    return scope["method"] == "GET" and "text/html" in Headers(scope=scope).get("accept", "")


def _refuse_strangers(scope: Scope, headers: Headers) -> None:
    client = scope.get("client")
    if client is None or not is_loopback(client[0]):
        raise Forbidden("Without an API key only this machine is served; set SIFTLINE_API_KEY to open it.")
    if not is_loopback(_host_of(f"//{headers.get('host', '')}")):
        raise Forbidden("Without an API key the service answers to localhost and 127.0.0.1 only.")
    _refuse_other_origins(headers)


def _refuse_other_origins(headers: Headers, *, may_be_missing: bool = True) -> None:
    """Browsers name the origin of whatever may change something; another one's page must not act for ours."""
    origin = headers.get("origin")
    if origin is None and may_be_missing:
        return
    if origin is None or origin.partition("://")[2] != headers.get("host"):
        raise Forbidden("Pages from elsewhere may not call this service.")


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def is_loopback(host: str) -> bool:
    """Whether a name or address, as it stands in a URL or a setting, is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
