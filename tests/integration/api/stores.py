"""A stand-in for an S3 store in trouble: moto's is never."""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Store(ThreadingHTTPServer):
    """Every request is kept in `asked` (path, headers) and answered by `reply`."""

    def __init__(self, reply: Callable[[BaseHTTPRequestHandler], None]) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append((self.path, dict(self.headers)))
                reply(self)

            do_HEAD = do_GET  # noqa: N815 - the name that its base looks for

            def log_message(self, *_: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


def answer(asked: BaseHTTPRequestHandler, status: int, body: bytes = b"", **headers: str) -> None:
    asked.send_response(status)
    for name, value in ({"Content-Length": str(len(body))} | headers).items():
        asked.send_header(name, value)
    asked.end_headers()
    if asked.command != "HEAD":
        asked.wfile.write(body)
