"""A real HTTP server that answers as it is told, for tests of the client."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from uuid import UUID

JOB_ID = UUID(int=7)
DROP = None  # the connection, without an answer
Answer = tuple[int, object, dict[str, str]] | None


def job(state: str, **more: object) -> dict[str, object]:
    return {
        "id": str(JOB_ID),
        "dataset_id": str(UUID(int=1)),
        "detector_id": None,
        "kind": "purify",
        "state": state,
        "stage": None,
        "progress": 0.0,
        "eta_s": None,
        "attempt": 1,
        "created_at": "2026-11-22T00:00:00Z",
        "started_at": None,
        "finished_at": None,
        "result": None,
        "error": None,
    } | more


def created() -> dict[str, object]:
    dataset = {
        "id": str(UUID(int=1)),
        "name": "n",
        "created_at": "2026-11-22T00:00:00Z",
        "options": {},
        "images": 1,
        "rejected_files": 0,
        "latest_version": None,
        "job": None,
    }
    return {"dataset": dataset, "receipts": [], "job": None}


def problem(status: int, code: str, **more: object) -> dict[str, object]:
    return {"title": "t", "status": status, "detail": f"because of {code}", "code": code} | more


class Script:
    """Answers in order; the last one again and again. Keeps what it was asked."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []

    def next(self) -> Answer:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@contextmanager
def scripted(script: Script) -> Iterator[str]:
    """The server's address, for the time of a `with`."""

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            script.asked.append((self.command, self.path, dict(self.headers), body))
            answer = script.next()
            if answer is DROP:
                self.close_connection = True
                return
            status, content, headers = answer
            raw = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(raw)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_POST = do_DELETE = handle_any  # noqa: N815 - the library's names

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
