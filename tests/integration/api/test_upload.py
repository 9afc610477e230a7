"""Images come in: every file gets a receipt, and one bad file harms nobody but itself."""

from typing import Any

from fastapi.testclient import TestClient

from siftline.settings import Settings
from tests.integration.api.conftest import made, png, spool_is_empty, statuses, tarred, upload, zipped


def test_an_upload_is_answered_with_the_dataset_its_receipts_and_its_job(api: TestClient) -> None:
    answer = upload(api, ("a.png", png(1)), ("b.png", png(2)), name="line 4 «north»")
    body = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/datasets/{body['dataset']['id']}"
    assert statuses(body) == [("a.png", "accepted", None), ("b.png", "accepted", None)]
    assert body["dataset"]["name"] == "line 4 «north»"
    assert body["dataset"]["images"] == 2
    assert body["job"]["state"] == "queued"
    assert body["dataset"]["job"] == body["job"]
    assert api.get(answer.headers["location"]).json() == body["dataset"]


def test_archives_are_unpacked_and_their_images_named_by_their_path(api: TestClient) -> None:
    body = made(
        api,
        ("a.zip", zipped(("x/1.png", png(1)), ("x/2.png", png(2)))),
        ("b.tar.gz", tarred(("3.png", png(3)))),
        ("c.tar", tarred(("4.png", png(4)), mode="w")),
        ("5.png", png(5)),
    )
    assert [name for name, status, _ in statuses(body) if status == "accepted"] == [
        "x/1.png", "x/2.png", "3.png", "4.png", "5.png",
    ]  # fmt: skip


def test_one_bad_file_in_an_archive_fails_alone(api: TestClient) -> None:
    bad = png(2)[:-100]
    body = made(api, ("a.zip", zipped(("1.png", png(1)), ("2.png", bad), ("readme.txt", b"hello"))))
    assert statuses(body) == [
        ("1.png", "accepted", None),
        ("2.png", "rejected", "truncated-image"),
        ("readme.txt", "rejected", "not-an-image"),
    ]
    assert body["dataset"]["images"] == 1
    assert body["dataset"]["rejected_files"] == 2


def test_the_same_bytes_twice_in_one_upload_are_a_duplicate(api: TestClient) -> None:
    body = made(api, ("a.png", png(1)), ("again.png", png(1)), ("z.zip", zipped(("in.png", png(1)))))
    assert [status for _, status, _ in statuses(body)] == ["accepted", "duplicate", "duplicate"]
    assert body["dataset"]["images"] == 1


def test_a_batch_without_one_good_file_makes_an_empty_dataset_without_a_job(api: TestClient) -> None:
    body = made(api, ("a.png", b"no image"), ("b.png", b""))
    assert statuses(body) == [("a.png", "rejected", "not-an-image"), ("b.png", "rejected", "empty-file")]
    assert body["job"] is None
    assert body["dataset"]["images"] == 0


def test_purification_can_be_put_off(api: TestClient) -> None:
    body = made(api, ("a.png", png(1)), data={"options": '{"purify": false, "seed": 7}'})
    assert body["job"] is None
    assert body["dataset"]["options"]["seed"] == 7


def test_a_second_batch_queues_a_second_job(api: TestClient) -> None:
    first = made(api, ("a.png", png(1)))
    path = f"/datasets/{first['dataset']['id']}/images"
    second = api.post(path, files=[("files", ("a2.png", png(1))), ("files", ("b.png", png(2)))])
    assert second.status_code == 202
    assert [s for _, s, _ in statuses(second.json())] == ["duplicate", "accepted"]
    assert second.json()["job"]["id"] != first["job"]["id"]
    assert second.json()["dataset"]["images"] == 2


def test_a_second_batch_with_nothing_new_needs_no_job(api: TestClient) -> None:
    first = made(api, ("a.png", png(1)))
    second = api.post(f"/datasets/{first['dataset']['id']}/images", files=[("files", ("b.png", png(1)))])
    assert second.status_code == 202
    assert second.json()["job"] is None


def test_two_thousand_files_fit_in_one_request(api: TestClient, settings: Settings) -> None:
    body = made(api, *[(f"{i}.png", png(i, (4, 4))) for i in range(2000)])
    assert body["dataset"]["images"] == 2000
    assert [r["name"] for r in body["receipts"]] == [f"{i}.png" for i in range(2000)]
    assert spool_is_empty(settings)


def test_a_name_that_no_database_could_hold_is_stored_readably(api: TestClient) -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="name"\r\n\r\nline\r\n'
    part = b'--b\r\nContent-Disposition: form-data; name="files"; filename="\xff\x00\x07.png"\r\n\r\n'
    body = head + part + png(1) + b"\r\n--b--\r\n"
    answer = api.post("/datasets", content=body, headers={"Content-Type": "multipart/form-data; boundary=b"})
    received: dict[str, Any] = answer.json()
    assert answer.status_code == 202, received
    assert [s for _, s, _ in statuses(received)] == ["accepted"]
    assert "\x00" not in received["receipts"][0]["name"]
