"""People at work while things break: they upload, purify, train, score, cancel and delete over HTTP.

A caller sends a creating request again, under its Idempotency-Key, until it has an answer; a promise is what
was answered with 202. What must never be answered, whatever is broken, is noted as a complaint.
"""

import hashlib
import io
import itertools
import json
import threading
import time
from dataclasses import dataclass, field
from random import Random
from typing import Any
from uuid import uuid4

import httpx2
import numpy as np
from PIL import Image, ImageFilter

from tests.faults.deployment import BACKBONE

TIMEOUT_S = 60.0
AGAIN = frozenset({429, 503})
FINAL = frozenset({"succeeded", "failed", "cancelled"})
IMAGES, MORE, SIDE = 24, 6, 64
SHORT_SHARE = 0.7
"""Of the lines, once there is a detector to score with."""
OPTIONS = {"backbone": BACKBONE, "partitions": 2, "subsets": 2}
TRAINING = {"max_steps": 20, "target_fpr": 0.1}

File = tuple[str, tuple[str, bytes]]


class Over(Exception):
    """The time is up before there was an answer."""


@dataclass
class Ledger:
    """What was promised and what went wrong, by all callers."""

    complaints: list[str] = field(default_factory=list)
    jobs: dict[str, str] = field(default_factory=dict)
    """Each with its dataset."""
    datasets: dict[str, set[str]] = field(default_factory=dict)
    """Images accepted, by their sha256."""
    tried: set[str] = field(default_factory=set)
    """Names of datasets that somebody tried to make."""
    deleted: set[str] = field(default_factory=set)
    cancelled: set[str] = field(default_factory=set)
    trained: list[tuple[str, str, int]] = field(default_factory=list)
    """(detector, dataset, version)"""
    scores: dict[tuple[str, str], set[float]] = field(default_factory=dict)
    """What a detector said of an image's sha256, each time it was asked."""
    requests: int = 0
    sent_again: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def complain(self, what: str) -> None:
        with self.lock:
            self.complaints.append(what)


def picture(seed: int) -> bytes:
    """A brushed surface as PNG; one in eight has a scratch."""
    noise = np.random.default_rng(seed).normal(128, 40, (SIDE, SIDE))
    surface = Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8)).filter(ImageFilter.BoxBlur(2))
    if seed % 8 == 0:
        for step in range(SIDE // 2):
            surface.paste(245, (10 + step, 10 + step // 2, 14 + step, 14 + step // 2))
    content = io.BytesIO()
    surface.save(content, "PNG")
    return content.getvalue()


def pictures(first: int, count: int) -> list[File]:
    return [("files", (f"{seed}.png", picture(seed))) for seed in range(first, first + count)]


def sha256s(files: list[File]) -> set[str]:
    return {hashlib.sha256(content).hexdigest() for _, (_, content) in files}


class Caller:
    """One client, patient until `deadline` (of `time.monotonic`)."""

    def __init__(self, url: str, ledger: Ledger, deadline: float) -> None:
        self.http = httpx2.Client(base_url=url, timeout=TIMEOUT_S)
        self.ledger, self.deadline = ledger, deadline

    def ask(self, method: str, path: str, *, fine: tuple[int, ...] = (200,), **given: Any) -> httpx2.Response:
        """The first answer that is one; a creating request is the same one each time. Raises Over."""
        if method == "POST":
            given["headers"] = {"Idempotency-Key": uuid4().hex} | given.get("headers", {})
        while time.monotonic() < self.deadline:
            self.ledger.requests += 1
            try:
                answer = self.http.request(method, path, **given)
            except httpx2.TransportError:
                time.sleep(0.3)
            else:
                if answer.status_code in fine:
                    return answer
                self._look_at(method, path, answer)
            self.ledger.sent_again += 1
        raise Over

    def _look_at(self, method: str, path: str, answer: httpx2.Response) -> None:
        if answer.status_code in AGAIN and "retry-after" in answer.headers:
            time.sleep(min(0.5, float(answer.headers["retry-after"])))
            return
        self.ledger.complain(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
        raise Over

    def until_final(self, job_id: str) -> dict[str, Any]:
        while True:
            job: dict[str, Any] = self.ask("GET", f"/jobs/{job_id}").json()
            if job["state"] in FINAL:
                return job
            time.sleep(0.3)

    def promised(self, job: dict[str, Any]) -> str:
        self.ledger.jobs[str(job["id"])] = str(job["dataset_id"])
        return str(job["id"])

    def heard(self, detector_id: str, items: list[dict[str, Any]]) -> None:
        with self.ledger.lock:
            for item in items:
                said = self.ledger.scores.setdefault((detector_id, item["sha256"]), set())
                said.add(item["score"])

    def purified(self, dataset_id: str, version: int | None = None) -> dict[str, Any]:
        params = {"limit": 500} | ({} if version is None else {"version": version})
        answer: dict[str, Any] = self.ask("GET", f"/datasets/{dataset_id}/purified", params=params).json()
        return answer


def upload(caller: Caller, first: int) -> tuple[str, str]:
    """(dataset, purification job) of fresh images, one of them twice, beside a file that is none."""
    files = pictures(first, IMAGES)
    name = f"line {first}"
    caller.ledger.tried.add(name)
    sent = [*files, files[0], ("files", ("notes.txt", b"no picture"))]
    fields = {"name": name, "options": json.dumps(OPTIONS)}
    body = caller.ask("POST", "/datasets", fine=(202,), data=fields, files=sent).json()
    dataset_id = str(body["dataset"]["id"])
    _check_receipts(caller.ledger, body, accepted=IMAGES)
    caller.ledger.datasets[dataset_id] = sha256s(files)
    return dataset_id, caller.promised(body["job"])


def add(caller: Caller, dataset_id: str, first: int) -> str:
    files = pictures(first, MORE)
    body = caller.ask("POST", f"/datasets/{dataset_id}/images", fine=(202,), files=files).json()
    _check_receipts(caller.ledger, body, accepted=MORE)
    caller.ledger.datasets[dataset_id] |= sha256s(files)
    return caller.promised(body["job"])


def _check_receipts(ledger: Ledger, body: dict[str, Any], *, accepted: int) -> None:
    statuses = [receipt["status"] for receipt in body["receipts"]]
    if statuses.count("accepted") != accepted:
        ledger.complain(f"receipts of fresh images: {statuses}")


def train(caller: Caller, dataset_id: str, version: int) -> tuple[str, str]:
    """(detector, job)"""
    asked = {"dataset_id": dataset_id, "version": version, "method": "funad", "options": TRAINING}
    body = caller.ask("POST", "/detectors", fine=(202,), json=asked).json()
    return str(body["detector"]["id"]), caller.promised(body["job"])


def score_later(caller: Caller, detector_id: str, first: int) -> str:
    """The job that scores a few images more than a request waits for."""
    path = f"/detectors/{detector_id}/score"
    body = caller.ask("POST", path, fine=(202,), files=pictures(first, MORE)).json()
    return caller.promised(body["job"])


def score(caller: Caller, detector_id: str, first: int) -> None:
    """The same images by a job and, meanwhile, one by one."""
    job_id = score_later(caller, detector_id, first)
    for seed in range(first, first + MORE // 2):
        png = {"Content-Type": "image/png"}
        answer = caller.ask("POST", f"/detectors/{detector_id}/score", content=picture(seed), headers=png)
        caller.heard(detector_id, answer.json()["items"])
    if caller.until_final(job_id)["state"] == "succeeded":
        caller.heard(detector_id, caller.ask("GET", f"/jobs/{job_id}/scores").json()["items"])


def look_in(caller: Caller, number: int) -> None:
    """Short work: images that nobody purifies yet, and scores of a detector that is there."""
    first = 1000 * number
    name, files = f"line {first}", pictures(first, MORE)
    caller.ledger.tried.add(name)
    body = caller.ask(
        "POST", "/datasets", fine=(202,), params={"purify": False}, data={"name": name}, files=files
    ).json()
    _check_receipts(caller.ledger, body, accepted=MORE)
    caller.ledger.datasets[str(body["dataset"]["id"])] = sha256s(files)
    detector_id = caller.ledger.trained[0][0]
    for batch in range(4):
        score(caller, detector_id, first + 200 + 10 * batch)


def live(caller: Caller, chance: Random, number: int, *, trains: bool) -> None:
    """One line's whole life. Images of number n are pictures 1000 n to 1000 n + 999."""
    first = 1000 * number
    dataset_id, job_id = upload(caller, first)
    if chance.random() < 0.3:
        job_id = add(caller, dataset_id, first + 100)
    if chance.random() < 0.15:
        caller.ledger.cancelled.add(job_id)
        caller.ask("POST", f"/jobs/{job_id}/cancel", fine=(202, 409))
    if caller.until_final(job_id)["state"] != "succeeded":
        return
    version = caller.purified(dataset_id)["version"]
    if not trains:
        return
    detector_id, job_id = train(caller, dataset_id, version)
    if caller.until_final(job_id)["state"] != "succeeded":
        return
    caller.ledger.trained.append((detector_id, dataset_id, version))
    for batch in range(2):
        score(caller, detector_id, first + 200 + 10 * batch)
    if chance.random() < 0.2 and caller.ledger.trained[0][0] != detector_id:
        _clear_away(caller, dataset_id, detector_id)


def _clear_away(caller: Caller, dataset_id: str, detector_id: str) -> None:
    caller.ledger.deleted.add(dataset_id)
    # 404: the first answer was lost, 409: a job of it is still under way.
    while caller.ask("DELETE", f"/detectors/{detector_id}", fine=(204, 404, 409)).status_code == 409:
        time.sleep(0.5)
    while caller.ask("DELETE", f"/datasets/{dataset_id}", fine=(204, 404, 409)).status_code == 409:
        time.sleep(0.5)


@dataclass
class Lines:
    """One caller's lines, one after the other: numbers `first`, `first + step`, …"""

    url: str
    ledger: Ledger
    chance: Random
    first: int
    step: int
    most: int | None = None
    trains: bool = True

    def start(self, last_begin_s: float, last_end_s: float) -> threading.Thread:
        """None begins after the one time, and none is waited for after the other (`time.monotonic`)."""
        thread = threading.Thread(target=self._live_on, args=(last_begin_s, last_end_s), daemon=True)
        thread.start()
        return thread

    def _live_on(self, last_begin_s: float, last_end_s: float) -> None:
        caller = Caller(self.url, self.ledger, last_end_s)
        numbers = itertools.count(self.first, self.step)
        for number in numbers if self.most is None else itertools.islice(numbers, self.most):
            if time.monotonic() > last_begin_s:
                return
            try:
                if self.ledger.trained and self.chance.random() < SHORT_SHARE:
                    look_in(caller, number)
                else:
                    live(caller, self.chance, number, trains=self.trains)
            except Over:
                if time.monotonic() > last_end_s:
                    self.ledger.complain(f"line {number} had no end in time")
            except Exception as error:  # the thread must tell, not vanish
                self.ledger.complain(f"line {number}: {error!r}")
