"""How fast `POST /detectors/{id}/score` is, beside the same model called in-process: one run, one machine.

python -m benchmarks.serving [--method funad] [--steps 200] [--rounds 5] [--requests 60] [--worker-nice 5]

Starts `siftline serve` as users do, purifies and trains on real solar cells, then measures in turns, so that
whatever else the machine does hits both sides: the network alone, decoding alone, both in-process, both over
HTTP at 1, 4 and 16 clients with one image a request, and 16 images a request. Then all of HTTP again while a
training runs. Clients are threads of this process, each on a bare socket (.015 ms of processor time a request
of 40 KB, http.client .08, httpx more): they share the machine with the server.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import numpy as np
import psutil

from benchmarks.demo import elpv_folder
from benchmarks.demo_server import serving
from siftline import Client
from siftline.imaging import ImageLimits, decode_rgb
from siftline.imaging.tiles import to_tiles
from siftline.schemas import CddOptions, Detector, FunadOptions, NewCdd, NewFunad
from siftline.scoring.detector import LoadedDetector
from siftline.scoring.network import threads
from siftline.services import scoring
from siftline.settings import Settings
from siftline.store.session import make_engine, session_factory

TRAINED_ON = 120
SCORED = 64
TOGETHER = 16
CLIENTS = (1, 4, 16)
LONG_STEPS = 1_000_000


@dataclass
class Series:
    """Rounds of one measurement: images per second, and each call's seconds."""

    rates: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return float(np.median(self.rates))

    def ms(self, percent: float) -> float:
        return 1000 * float(np.percentile(self.seconds, percent))

    def line(self, name: str) -> str:
        times = "  ".join(f"{self.ms(p):7.1f}" for p in (50, 95, 99))
        return f"{name:34} {self.rate:8.1f}   {times}   {np.median(self.cpu_ms):8.2f}"


Call = Callable[[int], None]


def measured(
    series: Series, calls: Sequence[Call], count: int, images: int, cpu_s: Callable[[], float]
) -> None:
    """One round: `count` calls shared among the callers, each with one call out at a time."""
    turns = iter(range(count))
    taken: list[float] = []
    lock = threading.Lock()

    def caller(call: Call) -> None:
        while True:
            with lock:
                turn = next(turns, None)
            if turn is None:
                return
            began = time.perf_counter()
            call(turn)
            taken.append(time.perf_counter() - began)

    worked, began = cpu_s(), time.perf_counter()
    with ThreadPoolExecutor(len(calls)) as pool:
        list(pool.map(caller, calls))
    series.rates.append(count * images / (time.perf_counter() - began))
    series.seconds += taken
    series.cpu_ms.append(1000 * (cpu_s() - worked) / (count * images))


class InProcess:
    """The detector as a library: what the service would be without HTTP."""

    def __init__(self, data_dir: Path, detector_id: UUID, images: Sequence[bytes]) -> None:
        self.settings = Settings(data_dir=data_dir)
        engine = make_engine(self.settings.sqlalchemy_url)
        self.detector: LoadedDetector = scoring.load(session_factory(engine), detector_id)
        engine.dispose()
        self.sent = [scoring.in_memory("image", image) for image in images]
        pixels = [decode_rgb(image, ImageLimits()) for image in images]
        self.tiles = [to_tiles(rgb, self.detector.side)[0] for rgb in pixels]

    def network(self, turn: int) -> None:
        self.detector.network(self.tiles[turn % SCORED])

    def decode(self, turn: int) -> None:
        to_tiles(decode_rgb(self.sent[turn % SCORED].source, ImageLimits()), self.detector.side)

    def whole(self, turn: int) -> None:
        scoring.score(self.detector, self.sent[turn % SCORED], self.settings)


@dataclass(frozen=True, slots=True)
class Target:
    url: str
    detector_id: UUID
    images: Sequence[bytes]

    def server(self) -> psutil.Process:
        """The process that listens there."""
        port = urlsplit(self.url).port
        listening = (c for c in psutil.net_connections("tcp") if c.status == "LISTEN")
        return psutil.Process(next(c.pid for c in listening if c.laddr and c.laddr.port == port))


class HttpClient:
    """One keep-alive connection, as bare as load generators have it: what it takes, the server lacks."""

    def __init__(self, target: Target) -> None:
        url = urlsplit(target.url)
        self.connection = socket.create_connection((url.hostname, url.port))
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.answers = self.connection.makefile("rb")
        self.head = f"POST /detectors/{target.detector_id}/score HTTP/1.1\r\nHost: {url.netloc}\r\n"
        self.images = images = target.images
        parts = [
            b'--b\r\nContent-Disposition: form-data; name="files"; filename="image"\r\n\r\n' + image + b"\r\n"
            for image in images[:TOGETHER]
        ]
        self.form = b"".join(parts) + b"--b--\r\n"

    def one(self, turn: int) -> None:
        self._post(self.images[turn % SCORED], "image/png", expected=1)

    def together(self, _turn: int) -> None:
        self._post(self.form, "multipart/form-data; boundary=b", expected=TOGETHER)

    def _post(self, body: bytes, kind: str, expected: int) -> None:
        head = f"{self.head}Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        self.connection.sendall(head.encode() + body)
        status, length = int(self.answers.readline().split()[1]), 0
        while (line := self.answers.readline().strip()) != b"":
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        content = self.answers.read(length)
        if status != 200 or len(json.loads(content)["items"]) != expected:
            raise SystemExit(f"HTTP {status}: {content[:500]!r}")


def trained(client: Client, images: Sequence[Path], given: argparse.Namespace) -> Detector:
    """A real detector through the API: upload, purify, train."""
    created = client.upload("solar cells", images)
    client.wait(created.job)
    made = client.train(asked(created.dataset.id, given.method, given.steps))
    client.wait(made.job)
    return client.detector(made.detector.id)


def asked(dataset_id: UUID, method: str, steps: int) -> NewFunad | NewCdd:
    if method == "funad":
        return NewFunad(dataset_id=dataset_id, method="funad", options=FunadOptions(max_steps=steps))
    return NewCdd(dataset_id=dataset_id, method="cdd", options=CddOptions(max_steps=steps))


@contextmanager
def training_beside(client: Client, detector: Detector, method: str) -> Iterator[None]:
    """Another training that takes longer than the measurement; cancelled at the end."""
    job = client.train(asked(detector.dataset_id, method, LONG_STEPS)).job
    while (job := client.job(job.id)).stage != "train":
        if job.finished_at is not None:
            raise SystemExit(f"The training beside did not run: {job.error}")
        time.sleep(0.2)
    yield
    job = client.job(job.id)
    print(f"the training beside was {job.state}, in stage {job.stage} at {job.progress:.0%}")
    if job.state != "running":
        raise SystemExit("It should have lasted longer: there is nothing to compare with.")
    client.cancel(job.id)


def http_rounds(table: dict[str, Series], target: Target, count: int, suffix: str = "") -> None:
    server = target.server()

    def cpu_s() -> float:
        times = server.cpu_times()
        return float(times.user + times.system)

    for clients in CLIENTS:
        calls = [HttpClient(target).one for _ in range(clients)]
        name = f"HTTP, {clients} clients{suffix}" if clients > 1 else f"HTTP, 1 client{suffix}"
        measured(table.setdefault(name, Series()), calls, count, 1, cpu_s)
    pair = [HttpClient(target).together for _ in range(2)]
    name = f"HTTP, 2 clients × {TOGETHER} images{suffix}"
    measured(table.setdefault(name, Series()), pair, max(2, count // TOGETHER), TOGETHER, cpu_s)


def in_process_rounds(table: dict[str, Series], local: InProcess, count: int) -> None:
    lanes = threads()
    for name, call, callers in (
        ("network alone, one at a time", local.network, 1),
        ("decode and resize alone", local.decode, 1),
        ("both in-process, one at a time", local.whole, 1),
        (f"network alone, {lanes} threads", local.network, lanes),
        (f"both in-process, {lanes} threads", local.whole, lanes),
        (f"both in-process, {lanes + 1} threads", local.whole, lanes + 1),
    ):
        measured(table.setdefault(name, Series()), [call] * callers, count, 1, time.process_time)


def verdicts(table: dict[str, Series]) -> Iterator[str]:
    lanes = threads()
    best = max(table[f"both in-process, {n} threads"].rate for n in (lanes, lanes + 1))
    both_ms = table["both in-process, one at a time"].ms(95)
    network_ms = table["network alone, one at a time"].ms(95)
    one, one_beside = (table[name] for name in ("HTTP, 1 client", "HTTP, 1 client, training beside"))
    for name in ("HTTP, 4 clients", "HTTP, 16 clients", f"HTTP, 2 clients × {TOGETHER} images"):
        yield f"throughput of {name} / in-process  {table[name].rate / best:.2f}   (wanted: .85)"
    yield f"p95 at one client / network alone, p95  {one.ms(95) / network_ms:.2f}   (wanted: at most 2)"
    yield f"p95 at one client / decode and network in-process, p95  {one.ms(95) / both_ms:.2f}"
    for clients in ("1 client", "4 clients", "16 clients"):
        ratio = table[f"HTTP, {clients}, training beside"].ms(95) / table[f"HTTP, {clients}"].ms(95)
        yield f"p95 at {clients} with a training beside / without  {ratio:.2f}   (wanted: under 2)"
    yield f"p99 at one client with a training beside  {one_beside.ms(99):.1f} ms"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--method", choices=("funad", "cdd"), default="funad")
    options.add_argument("--steps", type=int, default=200, help="of the training before")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--requests", type=int, default=60, help="a round and row")
    options.add_argument("--worker-nice", type=int, default=5)
    given = options.parse_args()
    paths = sorted((elpv_folder() / "images").glob("*.png"))
    images = [path.read_bytes() for path in paths[TRAINED_ON : TRAINED_ON + SCORED]]
    nice = {"SIFTLINE_WORKER_NICE": str(given.worker_nice)}
    table: dict[str, Series] = {}
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder), **nice) as url, Client(url) as client:
        detector = trained(client, paths[:TRAINED_ON], given)
        local = InProcess(Path(folder) / "data", detector.id, images)
        target = Target(url, detector.id, images)
        http_rounds({}, target, 2 * TOGETHER)  # loads the detector
        print("measuring", flush=True)
        for _ in range(given.rounds):
            in_process_rounds(table, local, given.requests)
            http_rounds(table, target, given.requests)
        print("starting a training beside", flush=True)
        with training_beside(client, detector, given.method):
            print("measuring beside it", flush=True)
            for _ in range(given.rounds):
                http_rounds(table, target, given.requests, ", training beside")
    size = sum(a.bytes for a in detector.artifacts if a.name == "model.onnx") / 2**20
    print(f"{detector.method}, {size:.0f} MiB ONNX, {local.detector.side} px, {threads()} threads, ", end="")
    print(f"load average {os.getloadavg()[0]:.1f}, worker nice {given.worker_nice}\n")
    print(f"{'':34} images/s    p50 ms   p95 ms   p99 ms   CPU ms/image")
    print(*(series.line(name) for name, series in table.items()), sep="\n")
    print(*verdicts(table), sep="\n")


if __name__ == "__main__":
    main()
