"""The same creating request twice is one creation."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient

from siftline.settings import Settings
from tests.integration.api.conftest import is_problem, made, png, upload

KEY = {"Idempotency-Key": "5f1c"}


def count(api: TestClient, path: str) -> int:
    return len(api.get(path).json()["items"])


def test_an_upload_sent_again_is_answered_again_and_not_done_again(
    api: TestClient, settings: Settings
) -> None:
    first = upload(api, ("a.png", png(1)), headers=KEY)
    again = upload(api, ("a.png", png(1)), headers=KEY)  # with another multipart boundary
    assert (again.status_code, again.json()) == (202, first.json())
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["idempotency-replayed"] == "true"
    assert count(api, "/datasets") == count(api, "/jobs") == 1
    assert len(list(settings.blobs_dir.glob("datasets/*"))) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"files": [("a.png", png(2))], "name": "line 4"},
        {"files": [("b.png", png(1))], "name": "line 4"},
        {"files": [("a.png", png(1))], "name": "line 5"},
    ],
)
def test_the_key_with_another_body_is_refused(api: TestClient, other: dict[str, Any]) -> None:
    upload(api, ("a.png", png(1)), headers=KEY)
    answer = upload(api, *other["files"], name=other["name"], headers=KEY)
    assert is_problem(answer, 422, "idempotency-key-reused")
    assert count(api, "/datasets") == 1


def test_two_requests_with_one_key_at_one_time_are_one_creation(api: TestClient, settings: Settings) -> None:
    files = [(f"{i}.png", png(i)) for i in range(20)]
    with ThreadPoolExecutor(4) as threads:
        sent = [threads.submit(upload, api, *files, headers=KEY) for _ in range(4)]
        answers = [s.result() for s in sent]
    assert {a.status_code for a in answers} == {202}
    assert len({a.json()["dataset"]["id"] for a in answers}) == 1
    assert count(api, "/datasets") == count(api, "/jobs") == 1
    assert len(list(settings.blobs_dir.glob("datasets/*"))) == 1


def test_a_batch_and_a_run_sent_again_are_not_done_again(api: TestClient) -> None:
    path = f"/datasets/{made(api, ('a.png', png(1)))['dataset']['id']}"
    batches = [
        api.post(f"{path}/images", files=[("files", ("b.png", png(2)))], headers=KEY) for _ in range(2)
    ]
    runs = [api.post(f"{path}/purifications", json={"seed": 3}, headers=KEY) for _ in range(2)]
    assert batches[0].json() == batches[1].json()
    assert batches[0].json()["receipts"][0]["status"] == "accepted"
    assert runs[0].json() == runs[1].json()
    assert is_problem(
        api.post(f"{path}/purifications", json={"seed": 4}, headers=KEY), 422, "idempotency-key-reused"
    )
    assert count(api, "/jobs") == 3


def test_a_refused_request_does_not_use_up_its_key(api: TestClient) -> None:
    assert upload(api, ("a.png", png(1)), name="", headers=KEY).status_code == 422
    assert upload(api, ("a.png", png(1)), headers=KEY).status_code == 202


@pytest.mark.parametrize("key", ["", "x" * 201, "a b", "ü"])
def test_a_key_must_be_a_short_printable_token(api: TestClient, key: str) -> None:
    answer = upload(api, ("a.png", png(1)), headers={"Idempotency-Key": key.encode()})
    assert is_problem(answer, 422, "validation-error")


def test_uploads_that_race_for_one_image_accept_it_once(api: TestClient) -> None:
    dataset_id = made(api, ("first.png", png(0)))["dataset"]["id"]
    files = [("files", (f"{i}.png", png(i))) for i in range(1, 30)]

    def send(order: int) -> list[str]:
        answer = api.post(f"/datasets/{dataset_id}/images", files=files[::order])
        assert answer.status_code == 202, answer.text
        return [r["status"] for r in answer.json()["receipts"]]

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(send, [1, -1, 1, -1]))
    assert sum(statuses.count("accepted") for statuses in found) == 29
    assert sum(statuses.count("duplicate") for statuses in found) == 3 * 29
    assert api.get(f"/datasets/{dataset_id}").json()["images"] == 30
