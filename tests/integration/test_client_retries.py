"""The client against a real HTTP server that misbehaves as told."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from siftline import Client
from siftline.client import JobFailed
from siftline.domain.errors import (
    JobStateConflict,
    NotFound,
    SiftlineError,
    TooLarge,
    Unavailable,
    Unprocessable,
)
from tests.integration.scripted import DROP, JOB_ID, Script, created, job, problem, scripted


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def url(script: Script) -> Iterator[str]:
    with scripted(script) as address:
        yield address


def test_a_busy_server_is_asked_again_when_it_said_so(script: Script, url: str) -> None:
    busy = (503, problem(503, "unavailable"), {"Retry-After": "0"})
    script.answers = [busy, (429, problem(429, "too-many"), {"Retry-After": "0"}), (200, job("queued"), {})]
    with Client(url) as client:
        assert client.job(JOB_ID).state == "queued"
    assert len(script.asked) == 3


def test_a_server_that_stays_busy_is_given_up_on(script: Script, url: str) -> None:
    script.answers = [(503, problem(503, "unavailable"), {"Retry-After": "0"})]
    with Client(url, attempts=3) as client, pytest.raises(Unavailable, match="because of unavailable"):
        client.job(JOB_ID)
    assert len(script.asked) == 3


SCORED = {
    "detector": {"id": str(uuid4()), "name": "d", "method": "funad", "version": 1},
    "calibration": {
        "method": "conformal", "n": 99, "in_sample": False, "version": 1, "date": "2026-11-22T00:00:00Z",
        "target_fpr": 0.01, "review_fpr": 0.05, "threshold": 3.0, "review_threshold": 2.0,
    },
    "items": [
        {"name": "a", "sha256": "0" * 64, "score": 1.0, "p_value": 0.5, "threshold": 3.0, "verdict": "ok"}
    ],
    "rejected": [],
}  # fmt: skip


def test_whoever_gives_time_has_a_restarting_or_busy_server_asked_until_it_is_back(
    script: Script, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("siftline.client.connection.LONGEST_PAUSE_S", 0.0)
    monkeypatch.setattr("siftline.client.connection.SOME_TIME_S", 0.0)
    busy = (503, problem(503, "unavailable"), {"Retry-After": "0"})
    script.answers = [DROP, DROP, DROP, busy, busy, busy, (200, SCORED, {})]
    with Client(url, attempts=2) as client:
        answer = client.score(JOB_ID, [b"x"], timeout_s=30)
    assert [item.verdict for item in answer.items] == ["ok"]
    assert len(script.asked) == 7


def test_an_upload_whose_connection_drops_is_sent_again_as_the_same_request(
    script: Script, url: str, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(b"x" * 300_000)
    script.answers = [DROP, (202, created(), {})]
    with Client(url) as client:
        client.upload("n", [tmp_path / "a.png"])
    (_, _, first, sent), (_, _, second, sent_again) = script.asked
    assert sent == sent_again
    assert first["Idempotency-Key"] == second["Idempotency-Key"]


def test_two_uploads_are_two_requests(script: Script, url: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    script.answers = [(202, created(), {})]
    with Client(url) as client:
        for _ in range(2):
            client.upload("n", [tmp_path / "a.png"])
    first, second = (headers["Idempotency-Key"] for _, _, headers, _ in script.asked)
    assert first != second


@pytest.mark.parametrize("act", [lambda c: c.cancel(JOB_ID), lambda c: c.delete_dataset(JOB_ID)])
def test_what_may_have_happened_already_is_not_done_twice(
    script: Script, url: str, act: Callable[[Client], object]
) -> None:
    script.answers = [DROP]
    with Client(url) as client, pytest.raises(Unavailable):
        act(client)
    assert len(script.asked) == 1


def test_a_server_that_is_not_there_is_unavailable_and_the_message_says_what_to_do() -> None:
    with (
        Client("http://127.0.0.1:9", attempts=1) as client,
        pytest.raises(Unavailable, match="siftline serve"),
    ):
        client.job(JOB_ID)


def test_something_else_on_that_port_is_recognised(script: Script, url: str) -> None:
    script.answers = [(200, b"<html>hello</html>", {"Content-Type": "text/html"})]
    with Client(url) as client, pytest.raises(Unavailable, match="not as Siftline does"):
        client.job(JOB_ID)


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (404, "not-found", NotFound),
        (409, "job-state-conflict", JobStateConflict),
        (413, "too-large", TooLarge),
        (422, "a-code-of-tomorrow", Unprocessable),
        (500, "internal-error", SiftlineError),
    ],
)
def test_a_problem_becomes_the_exception_it_names(
    script: Script, url: str, status: int, code: str, expected: type[SiftlineError]
) -> None:
    script.answers = [(status, problem(status, code), {})]
    with Client(url) as client, pytest.raises(SiftlineError, match=code) as caught:
        client.job(JOB_ID)
    assert type(caught.value) is expected
    assert len(script.asked) == 1


def test_wrong_fields_are_named_in_the_message(script: Script, url: str) -> None:
    errors = [{"loc": ["body", "options", "seed"], "msg": "too small"}]
    script.answers = [(422, problem(422, "unprocessable", errors=errors), {})]
    with Client(url) as client, pytest.raises(Unprocessable, match=r"body\.options\.seed: too small"):
        client.job(JOB_ID)


def test_a_proxy_s_error_page_is_an_error_with_its_status(script: Script, url: str) -> None:
    script.answers = [(502, b"<html>bad gateway</html>", {})]
    with Client(url) as client, pytest.raises(SiftlineError, match="502"):
        client.job(JOB_ID)


def test_waiting_reports_progress_and_returns_the_finished_job(script: Script, url: str) -> None:
    states = [job("queued"), job("running", progress=0.5), job("succeeded", progress=1.0)]
    script.answers = [(200, state, {}) for state in states]
    seen: list[float] = []
    with Client(url) as client:
        done = client.wait(JOB_ID, poll_s=0.01, on_progress=lambda now: seen.append(now.progress))
    assert done.state == "succeeded"
    assert seen == [0.0, 0.5, 1.0]


def test_waiting_for_a_job_that_fails_raises_what_it_says(script: Script, url: str) -> None:
    script.answers = [(200, job("failed", error=problem(500, "out-of-memory")), {})]
    with Client(url) as client, pytest.raises(JobFailed, match="because of out-of-memory") as caught:
        client.wait(JOB_ID)
    assert caught.value.job.state == "failed"


def test_waiting_ends_when_time_is_up(script: Script, url: str) -> None:
    script.answers = [(200, job("running"), {})]
    with Client(url) as client, pytest.raises(TimeoutError, match="still running"):
        client.wait(JOB_ID, timeout_s=0.05, poll_s=0.01)


def test_the_key_travels_as_a_bearer_token(script: Script, url: str) -> None:
    script.answers = [(200, job("queued"), {})]
    with Client(url, api_key="secret") as client:
        client.job(uuid4())
    assert script.asked[0][2]["Authorization"] == "Bearer secret"


def test_a_key_read_from_a_file_is_sent_without_the_line_end(script: Script, url: str) -> None:
    script.answers = [(200, job("queued"), {})]
    with Client(url, api_key="secret\n") as client:
        client.job(uuid4())
    assert script.asked[0][2]["Authorization"] == "Bearer secret"
