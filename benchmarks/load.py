"""Where the API's knee is, what happens past it, and whether its memory stays flat.

python -m benchmarks.load [--clients 1 2 4 … 256] [--seconds 6] [--requests 20000]

Starts `siftline serve` as users do, purifies and trains on real solar cells, then lets ever more clients,
each with one request out at a time, score images, read lists and upload. Beside them a process of its own
asks /healthz and /readyz twice a second. A client that is told to come back later (429 or 503) does so after
half a second. Then one client again: is all as it was? Last, as many requests as an hour of CI brings, with
the memory of the server looked at on the way. Clients are threads of this process and share the machine with
the server.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import psutil

from benchmarks.demo import elpv_folder
from benchmarks.demo_server import serving
from benchmarks.serving import Target, trained
from siftline import Client
from siftline.schemas import Detector

TRAINED_ON, SCORED, UPLOADED = 60, 32, 4
CLIENTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
LATER_S = 0.5
REFUSED = frozenset({429, 503})
KNEE = 1.1
"""A step past the knee brings less than so many times the answers of the step before."""


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    body: bytes | None = None
    kind: str | None = None


@dataclass
class Step:
    """What so many clients met."""

    clients: int
    seconds: float = 0.0
    taken: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)
    probes: dict[str, list[float]] = field(default_factory=dict)
    probes_refused: Counter[str] = field(default_factory=Counter)
    server_busy: float = 0.0
    """Processors that the server used."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def rate(self) -> float:
        return len(self.taken) / self.seconds

    @property
    def refused(self) -> int:
        return sum(self.statuses[status] for status in REFUSED)

    def line(self) -> str:
        p50, p95, p99 = (1000 * float(np.percentile(self.taken, p)) for p in (50, 95, 99))
        probes = "  ".join(
            f"{1000 * float(np.median(taken)):6.0f} {1000 * max(taken):6.0f}"
            f"{'!' if self.probes_refused[path] else ' '}"
            for path, taken in self.probes.items()
        )
        rates = f"{self.clients:7} {self.rate:9.1f} {p50:9.0f} {p95:9.0f} {p99:9.0f}"
        return f"{rates} {self.refused:8} {len(self.bad):5} {self.server_busy:6.2f}  {probes}"


HEAD = (
    f"{'clients':>7} {'answers/s':>9} {'p50 ms':>9} {'p95 ms':>9} {'p99 ms':>9}"
    f" {'refused':>8} {'bad':>5} {'server':>6}  median and slowest ms of /healthz, of /readyz (!: not 200)"
)


class Mix:
    """What clients ask, and how often."""

    def __init__(self, target: Target, detector: Detector) -> None:
        dataset = f"/datasets/{detector.dataset_id}"
        score = f"/detectors/{detector.id}/score"
        self.scores = [Request("POST", score, image, "image/png") for image in target.images]
        self.lists = [
            *(Request("GET", path) for path in ("/datasets", f"{dataset}/images", f"{dataset}/receipts")),
            *(Request("GET", path) for path in (f"{dataset}/purified", "/jobs", "/detectors")),
        ]
        self.images = target.images

    def next(self, chance: random.Random) -> Request:
        lot = chance.random()
        if lot < 0.6:
            return chance.choice(self.scores)
        return chance.choice(self.lists) if lot < 0.97 else self._upload(chance)

    def _upload(self, chance: random.Random) -> Request:
        part = 'Content-Disposition: form-data; name="{}"{}\r\n\r\n'
        fields = [part.format("name", "").encode() + b"load"]
        for number in range(UPLOADED):
            # Bytes behind a PNG's end: another file each time, the same image.
            image = chance.choice(self.images) + chance.randbytes(8)
            fields.append(part.format("files", f'; filename="{number}.png"').encode() + image)
        body = b"".join(b"--b\r\n" + content + b"\r\n" for content in fields) + b"--b--\r\n"
        return Request("POST", "/datasets?purify=false", body, "multipart/form-data; boundary=b")


@dataclass(frozen=True, slots=True)
class Load:
    """On which server, and of what."""

    netloc: str
    mix: Mix
    server: psutil.Process


def sent(connection: http.client.HTTPConnection, request: Request) -> tuple[int, str | None]:
    """Status and Retry-After."""
    headers = {} if request.kind is None else {"Content-Type": request.kind}
    connection.request(request.method, request.path, request.body, headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status, answer.headers["Retry-After"]


def client(netloc: str, mix: Mix, chance: random.Random, step: Step, goes_on: Callable[[], bool]) -> None:
    connection = http.client.HTTPConnection(netloc, timeout=120)
    while goes_on():
        request = mix.next(chance)
        began = time.perf_counter()
        try:
            status, retry_after = sent(connection, request)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            with step.lock:
                step.bad.append(f"{request.method} {request.path}: {error!r}")
            continue
        took = time.perf_counter() - began
        with step.lock:
            step.statuses[status] += 1
            if status in (200, 202):
                step.taken.append(took)
            elif status not in REFUSED or retry_after is None:
                step.bad.append(f"{request.method} {request.path}: {status}, Retry-After {retry_after}")
        if status in REFUSED:
            time.sleep(LATER_S)
    connection.close()


@contextmanager
def probed(netloc: str, step: Step) -> Iterator[None]:
    """By a process of its own: a thread of this one would wait for the clients' turns, not for the server."""
    command = [sys.executable, "-m", "benchmarks.probe", netloc]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as probing:
        yield
        said, _ = probing.communicate()
    for path, took, status in json.loads(said):
        step.probes.setdefault(path, []).append(took)
        step.probes_refused[path] += status != 200


def run_step(load: Load, clients: int, goes_on: Callable[[Step], Callable[[], bool]]) -> Step:
    step = Step(clients)
    chances = [random.Random(f"{clients} {n}") for n in range(clients)]  # noqa: S311 - chance, not secrecy
    go_on = goes_on(step)
    threads = [
        threading.Thread(target=client, args=(load.netloc, load.mix, chance, step, go_on))
        for chance in chances
    ]
    with probed(load.netloc, step):
        busy, began = sum(load.server.cpu_times()[:2]), time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        step.seconds = time.perf_counter() - began
        step.server_busy = (sum(load.server.cpu_times()[:2]) - busy) / step.seconds
    return step


def for_seconds(seconds: float) -> Callable[[Step], Callable[[], bool]]:
    def goes_on(_step: Step) -> Callable[[], bool]:
        deadline = time.monotonic() + seconds
        return lambda: time.monotonic() < deadline

    return goes_on


def find_knee(load: Load, clients: Sequence[int], seconds: float) -> list[Step]:
    run_step(load, 2, for_seconds(seconds))  # loads the detector and whatever is loaded once
    print(HEAD, flush=True)
    steps = []
    for count in (*clients, clients[0]):
        steps.append(run_step(load, count, for_seconds(seconds)))
        print(steps[-1].line(), flush=True)
    return steps


def verdicts(steps: Sequence[Step]) -> list[str]:
    rising, after = steps[:-1], steps[-1]
    knee = next(
        (one for one, more in itertools.pairwise(rising) if more.rate < KNEE * one.rate),
        rising[-1],
    )
    refusing = next((step.clients for step in rising if step.refused), None)
    bad = [what for step in steps for what in step.bad]
    return [
        f"knee: {knee.clients} clients, {knee.rate:.0f} answers/s",
        f"refuses (429 or 503, each with Retry-After) from: {refusing} clients",
        f"neither answered nor refused so: {len(bad)} {bad[:3]}",
        f"one client after / before: {after.rate / rising[0].rate:.2f} of the answers a second",
    ]


def memory_curve(load: Load, requests: int) -> list[tuple[int, float]]:
    """(answers so far, resident MiB) at twenty places."""
    curve: list[tuple[int, float]] = []

    def goes_on(step: Step) -> Callable[[], bool]:
        def answer() -> bool:
            done = step.statuses.total()
            if done >= len(curve) * requests / 20:
                curve.append((done, load.server.memory_info().rss / 2**20))
            return done < requests

        return answer

    step = run_step(load, 16, goes_on)
    print(f"\n{step.statuses.total()} requests of 16 clients in {step.seconds:.0f} s; bad: {len(step.bad)}")
    return curve


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--clients", type=int, nargs="+", default=CLIENTS)
    options.add_argument("--seconds", type=float, default=6.0, help="of each step")
    options.add_argument("--requests", type=int, default=20_000, help="while the memory is watched")
    options.add_argument("--method", choices=("funad", "cdd"), default="funad")
    options.add_argument("--steps", type=int, default=20, help="of the training before")
    given = options.parse_args()
    paths = sorted((elpv_folder() / "images").glob("*.png"))
    images = [path.read_bytes() for path in paths[TRAINED_ON : TRAINED_ON + SCORED]]
    nice = {"SIFTLINE_WORKER_NICE": "0"}  # the machine may be busy, and nothing trains while it is loaded
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder), **nice) as url, Client(url) as api:
        detector = trained(api, paths[:TRAINED_ON], given)
        target = Target(url, detector.id, images)
        load = Load(urlsplit(url).netloc, Mix(target, detector), target.server())
        steps = find_knee(load, given.clients, given.seconds)
        print(*verdicts(steps), f"load average {os.getloadavg()[0]:.1f}", sep="\n", flush=True)
        curve = memory_curve(load, given.requests)
    print("answers so far  resident MiB")
    print(*(f"{done:14} {mib:13.0f}" for done, mib in curve), sep="\n")


if __name__ == "__main__":
    main()
