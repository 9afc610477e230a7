"""Two requests at the same moment: one of them wins, and both are told so."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from siftline.settings import Settings
from siftline.store.models import Detector, Job
from siftline.store.session import reading
from tests.integration.api.conftest import png
from tests.integration.detecting import Ready, add_detector

ROUNDS = 6


def test_of_a_large_scoring_request_and_the_deletion_of_its_detector_one_wins(
    api: TestClient, sessions: sessionmaker[Session], settings: Settings, tmp_path: Path
) -> None:
    files = [("files", (f"{i}.png", png(i, (20, 20)))) for i in range(settings.score_images + 1)]
    outcomes = set()
    for _ in range(ROUNDS):
        detector = add_detector(sessions, tmp_path / "artifacts")
        path, together = f"/detectors/{detector.id}", threading.Barrier(2)

        def score(path: str = path, together: threading.Barrier = together) -> Any:
            together.wait()
            return api.post(f"{path}/score", files=files)

        def delete(path: str = path, together: threading.Barrier = together) -> Any:
            together.wait()
            return api.delete(path)

        with ThreadPoolExecutor(2) as both:
            scored, deleted = both.submit(score), both.submit(delete)
        outcomes.add((scored.result().status_code, deleted.result().status_code))
        assert is_whole(sessions, detector)
    assert outcomes <= {(202, 409), (404, 204)}


def test_an_image_that_is_scored_while_its_detector_goes_is_scored_or_not_found(
    api: TestClient, sessions: sessionmaker[Session], tmp_path: Path
) -> None:
    image = png(1, (20, 20))
    for _ in range(ROUNDS):
        path = f"/detectors/{add_detector(sessions, tmp_path / 'artifacts').id}"
        headers = {"Content-Type": "image/png"}
        with ThreadPoolExecutor(5) as all_of_us:
            scored = [
                all_of_us.submit(api.post, f"{path}/score", content=image, headers=headers) for _ in range(4)
            ]
            deleted = all_of_us.submit(api.delete, path)
        assert deleted.result().status_code == 204
        assert {one.result().status_code for one in scored} <= {200, 404}
        assert api.post(f"{path}/score", content=image, headers=headers).status_code == 404


def is_whole(sessions: sessionmaker[Session], detector: Ready) -> bool:
    """No job waits for a detector that is gone."""
    with reading(sessions) as session:
        there = session.get(Detector, detector.id) is not None
        waiting: list[UUID] = list(
            session.scalars(
                select(Job.id).where(Job.dataset_id == detector.dataset_id, Job.state == "queued")
            )
        )
    return there == bool(waiting)
