"""Somebody who asks a server's /healthz and /readyz twice a second, for benchmarks.load.

python -m benchmarks.probe HOST:PORT

Goes on until standard input ends, then prints what it met, one JSON list: path, seconds, status (0: none).
Nothing but the standard library: it must be there at once.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time

PATHS = ("/healthz", "/readyz")
EVERY_S = 0.5


def asked(netloc: str, path: str) -> tuple[str, float, int]:
    """By a new connection, as balancers do."""
    connection = http.client.HTTPConnection(netloc, timeout=120)
    began = time.perf_counter()
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        status = answer.status
    except OSError:
        status = 0
    connection.close()
    return path, time.perf_counter() - began, status


def main() -> None:
    over = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    met = []
    while not over.is_set():
        met += [asked(sys.argv[1], path) for path in PATHS]
        over.wait(EVERY_S)
    print(json.dumps(met))


if __name__ == "__main__":
    main()
