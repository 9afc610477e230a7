"""What a detector is trained on, and what its calibration may count beside it."""

import hashlib
from collections.abc import Iterable, Iterator
from uuid import UUID

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session, sessionmaker

from siftline.settings import Settings
from siftline.store.blobs_local import LocalBlobs
from siftline.store.models import Dataset, Image, PurifiedItem
from siftline.store.session import transaction
from siftline_workers.pipeline import clean_set
from tests.integration.api.conftest import open_client
from tests.integration.training import Line, new_line, solar_cells

CELLS, SUSPECTS = 24, 4
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def line(settings: Settings, sessions: sessionmaker[Session]) -> Iterator[Line]:
    with open_client(settings) as api:
        yield new_line(api, sessions, settings, cells=CELLS, suspects=SUSPECTS)


def by_hash(contents: Iterable[bytes]) -> list[bytes]:
    return sorted(contents, key=lambda content: hashlib.sha256(content).hexdigest())


def test_a_person_who_overrules_the_machine_decides_what_is_trained_on(line: Line) -> None:
    cells = solar_cells(CELLS)
    with transaction(line.sessions) as session:
        session.execute(update(Dataset).values(review_revision=7))
        session.execute(update(PurifiedItem).values(p_anomalous=0.75, near_duplicates=[]))
        for (name, _), review in ((cells[0], "keep"), (cells[-1], "reject")):
            session.execute(update(Image).where(Image.name == name).values(review=review))
    found = clean_set.load(line.sessions, LocalBlobs(line.settings.blobs_dir), UUID(line.dataset_id), 1)
    chosen = {hashlib.sha256(content).hexdigest(): content for _, content in [cells[0], *cells[SUSPECTS:-1]]}
    assert list(found.groups.ids) == sorted(chosen)
    assert {image.sha256: image.open_bytes() for image in found.images} == chosen
    assert found.review_revision == 7
    # One of the suspects was looked at.
    assert [image.open_bytes() for image in found.aside] == by_hash(
        content for _, content in cells[1:SUSPECTS]
    )
    assert found.good_set_aside == 0.25 * (SUSPECTS - 1)


def test_another_photograph_of_what_a_clean_image_shows_tells_nothing_of_unseen_ones(line: Line) -> None:
    cells = solar_cells(CELLS)
    with transaction(line.sessions) as session:
        ids = dict(session.execute(select(Image.name, Image.id)).all())
        session.execute(update(PurifiedItem).values(p_anomalous=0.5, near_duplicates=[]))
        for one, other in ((cells[0], cells[-1]), (cells[-1], cells[0]), (cells[1], cells[2])):
            own, twin = ids[one[0]], str(ids[other[0]])
            changed = update(PurifiedItem).where(PurifiedItem.image_id == own)
            session.execute(changed.values(near_duplicates=[twin]))
    found = clean_set.load(line.sessions, LocalBlobs(line.settings.blobs_dir), UUID(line.dataset_id), 1)
    assert [image.open_bytes() for image in found.aside] == by_hash(
        content for _, content in cells[1:SUSPECTS]
    )
    assert found.good_set_aside == 0.5 * (SUSPECTS - 1)


def test_photographs_of_one_thing_stay_together(line: Line) -> None:
    cells = solar_cells(CELLS)[SUSPECTS:]
    with transaction(line.sessions) as session:
        ids = dict(session.execute(select(Image.name, Image.id)).all())
        twins = [ids[name] for name, _ in cells[:3]]
        for own in ids.values():
            others = [str(twin) for twin in twins if twin != own] if own in twins else []
            changed = update(PurifiedItem).where(PurifiedItem.image_id == own)
            session.execute(changed.values(near_duplicates=others))
    found = clean_set.load(line.sessions, LocalBlobs(line.settings.blobs_dir), UUID(line.dataset_id), 1)
    hashes = {hashlib.sha256(content).hexdigest() for _, content in cells[:3]}
    for sha256 in found.groups.ids:
        assert set(found.groups.others(sha256)) == (hashes - {sha256} if sha256 in hashes else set())
