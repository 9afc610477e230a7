"""Detectors over HTTP: asked for, listed, deleted, and their artifacts."""

from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update
from sqlalchemy.orm import Session, sessionmaker

from siftline.domain.errors import Unprocessable
from siftline.domain.jobs import JobKind
from siftline.store import artifacts, detectors, jobs
from siftline.store.artifacts import CHUNK_BYTES
from siftline.store.models import Image
from siftline.store.session import reading, transaction
from tests.integration.api.conftest import is_head_of, is_problem, made, png
from tests.integration.api.test_answers import N, pages, write_version
from tests.integration.job_steps import claim

KEY = {"Idempotency-Key": "train-1"}


@pytest.fixture
def dataset_id(api: TestClient, sessions: sessionmaker[Session]) -> str:
    """25 images in one version, 5 of them suspect, nothing running."""
    body = made(api, *[(f"{i:02}.png", png(i)) for i in range(N)])
    found: str = body["dataset"]["id"]
    image_ids = [image["id"] for image in pages(api, f"/datasets/{found}/images")]
    write_version(sessions, found, image_ids, suspects=5)
    for job in pages(api, "/jobs"):
        api.post(f"/jobs/{job['id']}/cancel")
    return found


def asked(dataset_id: str, method: str = "funad", **more: Any) -> dict[str, Any]:
    return {"dataset_id": dataset_id, "method": method, **more}


def created(api: TestClient, dataset_id: str, **more: Any) -> dict[str, Any]:
    answer = api.post("/detectors", json=asked(dataset_id, **more))
    assert answer.status_code == 202, answer.text
    detector: dict[str, Any] = answer.json()["detector"]
    return detector


def finish(
    sessions: sessionmaker[Session], detector: dict[str, Any], folder: Path, *, files: dict[str, bytes]
) -> None:
    """End the training as the worker does, with these artifacts."""
    held = claim(sessions, UUID(detector["job"]["id"]))
    with transaction(sessions) as session:
        for name, content in files.items():
            (folder / name).write_bytes(content)
            media_type = "application/json" if name.endswith("json") else "application/octet-stream"
            artifacts.write(
                session,
                UUID(detector["id"]),
                name,
                folder / name,
                media_type=media_type,
                schema_version=1,
                max_bytes=2**30,
            )
        jobs.succeed(session, held, {})


def test_a_detector_is_asked_for_and_waits_for_its_training(api: TestClient, dataset_id: str) -> None:
    answer = api.post("/detectors", json=asked(dataset_id, options={"seed": 4, "max_minutes": 2.5}))
    assert answer.status_code == 202
    detector, job = answer.json()["detector"], answer.json()["job"]
    assert answer.headers["location"] == f"/detectors/{detector['id']}"
    assert (job["kind"], job["state"], job["detector_id"]) == ("train", "queued", detector["id"])
    assert (detector["state"], detector["version"], detector["method"]) == ("training", 1, "funad")
    assert detector["name"] == "line 4 v1 funad"
    told = {name: detector["options"][name] for name in ("seed", "max_minutes", "backbone")}
    assert told == {"seed": 4, "max_minutes": 2.5, "backbone": "lite"}
    assert (detector["lineage"], detector["calibration"]) == (None, None)
    assert (detector["curve"], detector["artifacts"]) == ([], [])
    assert api.get(answer.headers["location"]).json() == detector
    assert api.get(f"/jobs/{job['id']}").json() == job


def test_a_detector_has_the_version_backbone_and_name_that_were_asked_for(
    api: TestClient, sessions: sessionmaker[Session], dataset_id: str
) -> None:
    image_ids = [image["id"] for image in pages(api, f"/datasets/{dataset_id}/images")]
    assert write_version(sessions, dataset_id, image_ids, suspects=1) == 2
    options = {"backbone": "wrn50"}
    old = created(api, dataset_id, version=1, name="gate 7", method="cdd", options=options)
    assert (old["version"], old["name"], old["method"]) == (1, "gate 7", "cdd")
    assert old["options"]["backbone"] == "wrn50"
    assert created(api, dataset_id)["version"] == 2


def test_sending_it_again_with_its_key_is_one_training(api: TestClient, dataset_id: str) -> None:
    first, again = (api.post("/detectors", json=asked(dataset_id), headers=KEY) for _ in range(2))
    assert (again.status_code, again.json()) == (202, first.json())
    assert again.headers["location"] == first.headers["location"]
    assert len(list(pages(api, "/detectors"))) == 1
    other = api.post("/detectors", json=asked(dataset_id, "cdd"), headers=KEY)
    assert is_problem(other, 422, "idempotency-key-reused")


def test_what_cannot_be_trained_on_is_refused_with_the_reason(api: TestClient, dataset_id: str) -> None:
    unknown = str(uuid4())
    assert is_problem(api.post("/detectors", json=asked(unknown)), 404, "not-found")
    assert is_problem(api.post("/detectors", json=asked(dataset_id, version=7)), 404, "not-found")
    fresh = made(api, ("a.png", png(900)))
    answer = api.post("/detectors", json=asked(fresh["dataset"]["id"]))
    assert is_problem(answer, 409, "purification-not-ready")
    assert answer.json()["job"]["id"] == fresh["job"]["id"]
    assert int(answer.headers["retry-after"]) > 0
    for wrong in ({"method": "svm"}, {"options": {"seed": "1"}}, {"options": {"domains": 3}}, {"version": 0}):
        answer = api.post("/detectors", json=asked(dataset_id) | wrong)
        assert is_problem(answer, 422, "validation-error")
    assert list(pages(api, "/detectors")) == []


def test_people_decide_how_many_images_are_clean(
    api: TestClient, sessions: sessionmaker[Session], dataset_id: str
) -> None:
    image_ids = [image["id"] for image in pages(api, f"/datasets/{dataset_id}/images")]

    def decide(ids: list[str], review: str | None) -> None:
        with transaction(sessions) as session:
            wanted = Image.id.in_([UUID(image_id) for image_id in ids])
            session.execute(update(Image).where(wanted).values(review=review))

    decide(image_ids[-11:], "reject")  # 9 of the 20 clean ones are left
    answer = api.post("/detectors", json=asked(dataset_id))
    assert is_problem(answer, 422, "unprocessable")
    assert "9 clean images" in answer.json()["detail"]
    decide(image_ids[:1], "keep")  # a suspect that a person has cleared
    created(api, dataset_id)


def test_lists_are_newest_first_page_by_page_and_of_one_dataset_if_wanted(
    api: TestClient, sessions: sessionmaker[Session], dataset_id: str
) -> None:
    ids = [created(api, dataset_id, name=f"d{i}")["id"] for i in range(5)]
    other = made(api, *[(f"{i}.png", png(100 + i)) for i in range(12)])["dataset"]["id"]
    write_version(sessions, other, [i["id"] for i in pages(api, f"/datasets/{other}/images")], suspects=0)
    ids.append(created(api, other)["id"])
    assert [d["id"] for d in pages(api, "/detectors", limit=2)] == ids[::-1]
    assert [d["id"] for d in pages(api, "/detectors", limit=3, dataset_id=other)] == ids[-1:]
    assert is_problem(api.get("/detectors", params={"cursor": "abc"}), 400, "bad-cursor")


def test_artifacts_are_given_back_bit_for_bit_with_their_hash(
    api: TestClient, sessions: sessionmaker[Session], dataset_id: str, tmp_path: Path
) -> None:
    detector = created(api, dataset_id)
    path = f"/detectors/{detector['id']}"
    early = api.get(f"{path}/artifacts/model.onnx")
    assert is_problem(early, 409, "detector-not-ready")
    assert early.json()["job"]["id"] == detector["job"]["id"]
    assert int(early.headers["retry-after"]) > 0
    files = {"model.onnx": bytes(range(256)) * (CHUNK_BYTES // 200), "report.json": b"{}"}
    finish(sessions, detector, tmp_path, files=files)

    shown = api.get(path).json()
    assert shown["state"] == "ready"
    assert shown["artifacts"] == api.get(f"{path}/artifacts").json()
    assert [a["name"] for a in shown["artifacts"]] == sorted(files)
    for told in shown["artifacts"]:
        answer = api.get(told["url"])
        assert answer.content == files[told["name"]]
        assert answer.headers["content-type"] == told["media_type"]
        assert int(answer.headers["content-length"]) == told["bytes"] == len(files[told["name"]])
        assert answer.headers["etag"] == f'"{told["sha256"]}"'
        assert answer.headers["content-disposition"] == f'attachment; filename="{told["name"]}"'
        assert is_head_of(api.head(told["url"]), answer)
        again = api.get(told["url"], headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    assert is_problem(api.get(f"{path}/artifacts/model.pt"), 404, "not-found")


def test_a_detector_whose_training_failed_says_why(
    api: TestClient, sessions: sessionmaker[Session], dataset_id: str
) -> None:
    detector = created(api, dataset_id)
    held = claim(sessions, UUID(detector["job"]["id"]))
    with transaction(sessions) as session:
        jobs.fail(session, held, Unprocessable("The weights are missing."))
    assert api.get(f"/detectors/{detector['id']}").json()["state"] == "failed"
    answer = api.get(f"/detectors/{detector['id']}/artifacts/model.onnx")
    assert is_problem(answer, 409, "detector-not-ready")
    assert "The weights are missing." in answer.json()["detail"]
    assert "retry-after" not in answer.headers

    cancelled = created(api, dataset_id)
    api.post(f"/jobs/{cancelled['job']['id']}/cancel")
    assert api.get(f"/detectors/{cancelled['id']}").json()["state"] == "cancelled"
    answer = api.get(f"/detectors/{cancelled['id']}/artifacts/model.onnx")
    assert is_problem(answer, 409, "detector-not-ready")


def test_a_detector_is_deleted_once_nothing_works_on_it(
    api: TestClient, sessions: sessionmaker[Session], dataset_id: str, tmp_path: Path
) -> None:
    detector = created(api, dataset_id)
    path = f"/detectors/{detector['id']}"
    answer = api.delete(path)
    assert is_problem(answer, 409, "detector-busy")
    assert answer.json()["job"]["id"] == detector["job"]["id"]
    finish(sessions, detector, tmp_path, files={"model.onnx": b"1"})

    with transaction(sessions) as session:
        params: dict[str, Any] = {}
        scoring = jobs.create(
            session, UUID(dataset_id), JobKind.SCORE, params, detector_id=UUID(detector["id"])
        )
    assert is_problem(api.delete(path), 409, "detector-busy")
    api.post(f"/jobs/{scoring.id}/cancel")
    assert api.delete(path).status_code == 204
    for gone in (path, f"{path}/artifacts", f"{path}/artifacts/model.onnx"):
        assert is_problem(api.get(gone), 404, "not-found")
    assert is_problem(api.delete(path), 404, "not-found")
    assert api.get(f"/jobs/{detector['job']['id']}").json()["detector_id"] is None
    with reading(sessions) as session:
        assert artifacts.of_detectors(session, [UUID(detector["id"])]) == []


def test_a_dataset_is_not_deleted_under_its_detectors(
    api: TestClient, sessions: sessionmaker[Session], dataset_id: str
) -> None:
    detector = created(api, dataset_id, name="gate 7")
    assert is_problem(api.delete(f"/datasets/{dataset_id}"), 409, "dataset-busy")
    api.post(f"/jobs/{detector['job']['id']}/cancel")
    answer = api.delete(f"/datasets/{dataset_id}")
    assert is_problem(answer, 409, "dataset-has-detectors")
    assert detector["id"] in answer.json()["detail"]
    assert "gate 7" in answer.json()["detail"]
    assert api.delete(f"/detectors/{detector['id']}").status_code == 204
    assert api.delete(f"/datasets/{dataset_id}").status_code == 204
    with reading(sessions) as session:
        assert detectors.page(session, dataset_id=None, before=None, limit=1) == []
