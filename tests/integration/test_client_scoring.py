"""What the client makes of a server's answers about images: a few per request, as a job, or too few."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from siftline import Client
from siftline.domain.errors import Unavailable
from tests.integration.scripted import JOB_ID, Script, job, problem, scripted

DETECTOR = UUID(int=3)
CARD = {
    "method": "held out",
    "n": 100,
    "in_sample": False,
    "version": 2,
    "date": "2026-11-22T00:00:00Z",
    "target_fpr": 0.01,
    "review_fpr": 0.05,
    "threshold": 0.8,
    "review_threshold": 0.5,
}


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def url(script: Script) -> Iterator[str]:
    with scripted(script) as address:
        yield address


def scored(name: str) -> dict[str, Any]:
    return {"name": name, "sha256": "ab", "score": 0.1, "p_value": 0.9, "threshold": 0.8, "verdict": "ok"}


def answer(*names: str) -> dict[str, Any]:
    detector = {"id": str(DETECTOR), "name": "d", "method": "funad", "version": 2}
    return {"detector": detector, "calibration": CARD, "items": [scored(n) for n in names], "rejected": []}


def test_images_in_memory_are_sent_as_files(script: Script, url: str) -> None:
    script.answers = [(200, answer("a", "b"), {})]
    with Client(url) as client:
        found = client.score(DETECTOR, [b"first image", b"second image"], explain="map")
    [(method, path, _, body)] = script.asked
    assert (method, path) == ("POST", f"/detectors/{DETECTOR}/score?explain=map")
    assert b"first image" in body
    assert b"second image" in body
    assert [item.name for item in found.items] == ["a", "b"]


def test_a_queue_that_is_full_is_asked_again(script: Script, url: str) -> None:
    full = (429, problem(429, "queue-full"), {"Retry-After": "0"})
    script.answers = [full, full, (200, answer("a"), {})]
    with Client(url) as client:
        assert len(client.score(DETECTOR, [b"image"]).items) == 1
    assert len(script.asked) == 3


def test_an_answer_that_leaves_an_image_out_is_no_answer(script: Script, url: str) -> None:
    script.answers = [(200, answer("a"), {})]
    with Client(url) as client, pytest.raises(Unavailable, match="1 of 2"):
        client.score(DETECTOR, [b"image", b"other image"])


def test_a_server_that_makes_a_job_of_it_is_waited_for(script: Script, url: str) -> None:
    detector = {
        "id": str(DETECTOR),
        "dataset_id": str(UUID(int=1)),
        "version": 2,
        "name": "d",
        "method": "funad",
        "options": {},
        "state": "ready",
        "created_at": "2026-11-22T00:00:00Z",
        "job": job("succeeded"),
        "lineage": None,
        "calibration": CARD,
        "curve": [],
        "artifacts": [],
    }
    rejected = {"name": "b", "code": "not-an-image", "reason": "it is not"}
    script.answers = [
        (202, {"job": job("queued", kind="score")}, {}),
        (200, job("succeeded", kind="score"), {}),
        (200, detector, {}),
        (200, {"items": [scored("a")], "next_cursor": "more"}, {}),
        (200, {"items": [rejected], "next_cursor": None}, {}),
    ]
    with Client(url) as client:
        found = client.score(DETECTOR, [b"image", b"no image"])
    assert [item.name for item in found.items] == ["a"]
    assert [file.name for file in found.rejected] == ["b"]
    assert [path.split("?")[0] for _, path, _, _ in script.asked[-2:]] == [f"/jobs/{JOB_ID}/scores"] * 2
