"""Who may come in. With a key: whoever shows it. Without one: this machine only.

A page on the web can make a browser on this machine call us: through a name that resolves to 127.0.0.1 (Host
tells) or from a form of its own (Origin tells).
"""

import hmac
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from siftline.access.principal import LOCAL
from siftline.domain.errors import Forbidden, Unauthorized
from siftline.settings import Settings

OPEN_PATHS = {"/healthz"}


class Gate:
    """ASGI middleware. Raises Unauthorized and Forbidden for the error middleware around it."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.key = None if settings.api_key is None else settings.api_key.get_secret_value().encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope.setdefault("state", {})["principal"] = LOCAL
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            if self.key is None:
                _refuse_strangers(scope)
            elif not hmac.compare_digest(_shown_key(Headers(scope=scope)), self.key):
                raise Unauthorized("Send the API key as `Authorization: Bearer <key>` or `X-API-Key: <key>`.")
        await self.app(scope, receive, send)


def _shown_key(headers: Headers) -> bytes:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    shown = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
    return shown.encode("latin-1")


def _refuse_strangers(scope: Scope) -> None:
    headers = Headers(scope=scope)
    client = scope.get("client")
    if client is None or not is_loopback(client[0]):
        raise Forbidden("Without an API key only this machine is served; set SIFTLINE_API_KEY to open it.")
    if not is_loopback(_host_of(f"//{headers.get('host', '')}")):
        raise Forbidden("Without an API key the service answers to localhost and 127.0.0.1 only.")
    if "origin" in headers and not is_loopback(_host_of(headers["origin"])):
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
