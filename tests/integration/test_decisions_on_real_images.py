"""Real solar cells: purified, explained, decided on, purified again, and searched for the like of a miss."""

import threading
from collections.abc import Iterator
from io import BytesIO
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from PIL import Image, ImageDraw, ImageEnhance
from sqlalchemy import select, update
from sqlalchemy.orm import Session, sessionmaker

from siftline import schemas
from siftline.domain.jobs import JobKind
from siftline.main import create_app
from siftline.settings import Settings
from siftline.store import jobs, models, purifications
from siftline.store.models import PurifiedItem
from siftline.store.session import reading, transaction
from siftline_workers.pipeline import purify, similar
from siftline_workers.running import RunningJob
from tests.integration.api.conftest import made
from tests.integration.job_steps import claim, read
from tests.integration.training import solar_cells
from tests.networks import Lend

pytest.importorskip("elpv_dataset", reason="no solar cells without the package elpv-dataset")
CELLS = 30


@pytest.fixture
def api(settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(settings), base_url="http://127.0.0.1", client=("127.0.0.1", 50000)) as client:
        yield client


def retouched(content: bytes, *, brightness: float = 1.0, scratch: bool = False) -> bytes:
    picture = Image.open(BytesIO(content)).convert("L")
    picture = ImageEnhance.Brightness(picture).enhance(brightness)
    if scratch:
        ImageDraw.Draw(picture).line((40, 60, 250, 210), fill=255, width=14)
    out = BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def ran(
    kind: JobKind, work: Any, line: "tuple[sessionmaker[Session], Settings, UUID]", **params: object
) -> Any:
    sessions, settings, dataset_id = line
    with transaction(sessions) as session:
        job_id = jobs.create(session, dataset_id, kind, params).id
    held = claim(sessions, job_id)
    work(RunningJob(read(sessions, job_id), held, settings, sessions, threading.Event()))
    return read(sessions, job_id).result


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_people_and_real_images(
    api: TestClient, sessions: sessionmaker[Session], settings: Settings, lend_network: Lend
) -> None:
    lend_network(settings.data_dir)
    cells = solar_cells(CELLS)
    scratched = [(f"scratch-{i}.png", retouched(cells[i][1], scratch=True)) for i in (3, 9)]
    copy = ("copy.png", retouched(cells[3][1], scratch=True, brightness=1.04))
    dataset_id = UUID(made(api, *cells[10:], *scratched, copy)["dataset"]["id"])
    line = (sessions, settings, dataset_id)
    first = ran(JobKind.PURIFY, purify.run, line, backbone="lite")
    items = _items(sessions, dataset_id, first["version"])
    names = {item.image_id: name for item, name in items}
    by_name = {name: item for item, name in items}

    for item, _ in items:
        told = schemas.Explanation.model_validate(
            {**(item.explanation or {}), "image_id": item.image_id, "version": 1}
        )
        assert item.image_id not in {patch.image_id for patch in told.neighbours}
        assert {patch.image_id for patch in told.neighbours} <= set(names)
        assert told.distance == min(patch.distance for patch in told.neighbours)
        assert (item.cluster is None) == (item.verdict == "clean")
    worst = by_name["scratch-3.png"]
    box = schemas.Box.model_validate((worst.explanation or {})["box"])
    assert box.left < 250 / 300
    assert box.right > 40 / 300
    assert str(by_name["copy.png"].image_id) in worst.near_duplicates

    found = ran(JobKind.SIMILAR, similar.run, line, image_id=str(worst.image_id))["similar"]
    alike = [schemas.SimilarImage.model_validate(one) for one in found]
    assert len(alike) == len(items) - 1
    assert alike[0].name == "copy.png"
    assert alike[1].name == "scratch-9.png", "the same defect on another cell"
    assert alike[0].similarity > alike[1].similarity > alike[5].similarity

    with transaction(sessions) as session:
        for image_id, review in ((worst.image_id, "reject"), (items[-1][0].image_id, "keep")):
            session.execute(update(models.Image).where(models.Image.id == image_id).values(review=review))
        session.execute(update(models.Dataset).values(review_revision=2))
    again = ran(JobKind.PURIFY, purify.run, line, backbone="lite")
    after = {name: item for item, name in _items(sessions, dataset_id, again["version"])}
    assert (after["scratch-3.png"].verdict, after["scratch-3.png"].p_anomalous) == ("suspect", 1)
    assert after[items[-1][1]].verdict == "clean"
    with reading(sessions) as session:
        assert purifications.numbered(session, dataset_id, again["version"]).review_revision == 2


def _items(sessions: sessionmaker[Session], dataset_id: UUID, version: int) -> list[tuple[PurifiedItem, str]]:
    """By rank, with their names."""
    with reading(sessions) as session:
        query = (
            select(PurifiedItem, models.Image.name)
            .join(models.Image, models.Image.id == PurifiedItem.image_id)
            .where(PurifiedItem.purification_id == purifications.numbered(session, dataset_id, version).id)
            .order_by(PurifiedItem.rank)
        )
        return [(item, name) for item, name in session.execute(query)]
