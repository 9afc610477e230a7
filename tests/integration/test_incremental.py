"""A batch for a purified set is built on the last full version, and users are told."""

import threading
from collections.abc import Iterator
from functools import cache, partial
from io import BytesIO
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image, ImageFilter
from sqlalchemy.orm import Session, sessionmaker
from uuid_utils.compat import uuid7

from siftline.domain.jobs import JobKind
from siftline.main import create_app
from siftline.settings import Settings
from siftline.store import images as store_images
from siftline.store import jobs, purifications
from siftline.store.purifications import NewItem, NewVersion
from siftline.store.session import now, reading, transaction
from siftline_workers.methods import funad
from siftline_workers.methods.backbones import load_backbone
from siftline_workers.methods.funad_head import FunadOptions
from siftline_workers.pipeline import dataset_images, incremental, purify
from siftline_workers.pipeline.dataset_images import DatasetImages
from siftline_workers.pipeline.extract import StoredImage
from siftline_workers.running import RunningJob
from tests.integration.api.conftest import made
from tests.integration.job_steps import claim, read
from tests.networks import Lend

FIRST, BATCH = 24, 6


def texture(seed: int) -> tuple[str, bytes]:
    noise = np.random.default_rng(seed).normal(128, 40, (64, 64))
    surface = Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8)).filter(ImageFilter.BoxBlur(2))
    out = BytesIO()
    surface.save(out, "PNG")
    return f"{seed}.png", out.getvalue()


@pytest.fixture
def api(settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(settings), base_url="http://127.0.0.1", client=("127.0.0.1", 50000)) as client:
        yield client


class Line:
    """A dataset over HTTP, its jobs run here and now."""

    def __init__(self, api: TestClient, sessions: sessionmaker[Session], settings: Settings) -> None:
        self.api, self.sessions, self.settings = api, sessions, settings
        self.dataset_id = UUID(made(api, *map(texture, range(FIRST)))["dataset"]["id"])

    def add(self, *seeds: int) -> None:
        files = [("files", texture(seed)) for seed in seeds]
        assert self.api.post(f"/datasets/{self.dataset_id}/images", files=files).status_code == 202

    def purify(self, **options: object) -> dict[str, Any]:
        with transaction(self.sessions) as session:
            params = {"backbone": "lite"} | options
            job_id = jobs.create(session, self.dataset_id, JobKind.PURIFY, params).id
        held = claim(self.sessions, job_id)
        purify.run(
            RunningJob(read(self.sessions, job_id), held, self.settings, self.sessions, threading.Event())
        )
        result = read(self.sessions, job_id).result
        assert result is not None
        return result


def write_version(
    sessions: sessionmaker[Session], dataset_id: UUID, images: list[UUID], basis: int | None = None
) -> None:
    options = {"seed": 0} | ({} if basis is None else {incremental.BASIS_KEY: basis})
    version = NewVersion(options, {"name": "lite", "fingerprint": "f"}, {}, {}, {}, {}, {})
    items = [
        NewItem(image_id, rank, 1.0, 0.1, (0, 1), "clean", False, 0.9, {}, [], 1, 1, b"0")
        for rank, image_id in enumerate(images, 1)
    ]
    with transaction(sessions) as session:
        purifications.write_version(
            session,
            dataset_id=dataset_id,
            job_id=jobs.create(session, dataset_id, JobKind.PURIFY, {}).id,
            created_at=now(session),
            version=version,
            items=items,
        )


def basis_of(
    sessions: sessionmaker[Session], dataset_id: UUID, seed: int = 0, fingerprint: str = "f"
) -> tuple[int, set[UUID]] | None:
    with reading(sessions) as session:
        found = incremental.earlier(session, dataset_id, seed=seed, fingerprint=fingerprint)
    return found and (found[0], set(found[1]))


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_batch_is_built_on_the_last_full_version(
    api: TestClient,
    sessions: sessionmaker[Session],
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    lend_network: Lend,
) -> None:
    lend_network(settings.data_dir)
    monkeypatch.setattr(incremental, "_FEWEST", FIRST)
    # The head comes after the graph and is trained anew each time; the backbone may as well be loaded once.
    monkeypatch.setattr(funad, "FunadOptions", partial(FunadOptions, steps=3))
    monkeypatch.setattr(dataset_images, "load_backbone", cache(load_backbone))
    line = Line(api, sessions, settings)
    assert "basis_version" not in line.purify()
    (kept,) = settings.work_dir.rglob("neighbours-*.npz")  # outlives its job
    written = kept.stat().st_mtime_ns
    line.add(*range(FIRST, FIRST + BATCH))
    result = line.purify()
    assert (result["basis_version"], result["basis_images"], result["added_images"]) == (1, FIRST, BATCH)
    assert list(settings.work_dir.rglob("neighbours-*.npz")) == [kept]
    assert kept.stat().st_mtime_ns == written, "what follows from the first images is not done again"

    diff = api.get(f"/datasets/{line.dataset_id}/purified/diff", params={"from": 1, "to": 2}).json()
    assert len(diff["added"]) == BATCH
    ranks = api.get(f"/datasets/{line.dataset_id}/purified", params={"version": 2}).json()["items"]
    assert {item["image_id"] for item in ranks} >= set(diff["added"])

    line.purify(seed=1)
    (new,) = settings.work_dir.glob(f"*/basis.{line.dataset_id}")  # the old one went when the new had landed
    assert not kept.parent.exists()
    assert list(settings.work_dir.rglob("neighbours-*.npz")) == [new.parent / kept.name]
    assert not list(settings.work_dir.glob("*/job.*"))


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_versions_point_to_their_basis(api: TestClient, sessions: sessionmaker[Session]) -> None:
    dataset_id = UUID(made(api, *map(texture, range(3)))["dataset"]["id"])
    with reading(sessions) as session:
        images = [image.id for image in store_images.of_dataset(session, dataset_id)]
    assert basis_of(sessions, dataset_id) is None
    write_version(sessions, dataset_id, images[:2])
    assert basis_of(sessions, dataset_id) == (1, set(images[:2]))
    write_version(sessions, dataset_id, images, basis=1)
    assert basis_of(sessions, dataset_id) == (1, set(images[:2])), "not the grown one"
    assert basis_of(sessions, dataset_id, seed=1) is None
    assert basis_of(sessions, dataset_id, fingerprint="other") is None
    write_version(sessions, dataset_id, images)
    assert basis_of(sessions, dataset_id) == (3, set(images))


@pytest.mark.parametrize(
    ("before", "added", "lost", "grows"),
    [(256, 1, 0, True), (256, 64, 0, True), (256, 65, 0, False), (255, 9, 0, False), (300, 9, 1, False)],
)
def test_the_basis_stays_until_the_set_has_grown_by_a_quarter(
    before: int, added: int, lost: int, grows: bool
) -> None:
    ids = {f"{i * 7919 % 1009:064x}": uuid7() for i in range(before + added)}
    known = [*list(ids.values())[:before], *(uuid7() for _ in range(lost))]
    stored = tuple(StoredImage(sha256, sha256, lambda: b"") for sha256 in sorted(ids))
    found = incremental.grown(DatasetImages(ids, stored, None, {}, 0), 4, known)
    if not grows:
        assert found is None
        return
    assert found is not None
    ordered, growth = found
    assert (growth.version, growth.images) == (4, before)
    assert [ids[image.image_id] in set(known) for image in ordered.stored] == [True] * before + [
        False
    ] * added
    assert [image.image_id for image in ordered.stored[:before]] == sorted(
        sha256 for sha256, image_id in ids.items() if image_id in set(known)
    )
