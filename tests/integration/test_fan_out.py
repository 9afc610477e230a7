"""Pieces of a job that other worker processes do: the same bits, whoever did them, dead or alive."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from sqlalchemy import update
from sqlalchemy.orm import Session, sessionmaker

from siftline.dispatch import silent
from siftline.domain.jobs import JobKind, Lane, Work
from siftline.settings import Settings
from siftline.store import jobs, parts
from siftline.store.jobs import Claim
from siftline.store.models import PurifiedItem
from siftline.store.parts import Part
from siftline.store.session import reading, transaction
from siftline_workers.helping import help_next
from siftline_workers.lifecycle import Child, Supervisor, kill
from siftline_workers.pipeline import purify, train
from siftline_workers.running import Cancelled, RunningJob
from tests.conftest import PATIENCE_S
from tests.integration.api.conftest import made, open_client
from tests.integration.job_steps import add_job, claim, read
from tests.integration.training import new_line, solar_cells

NETWORK = "test_efficientnet"  # timm's smallest
BACKBONE = f"timm:{NETWORK}"
CELLS = 20
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

Pieces = Mapping[str, NDArray[Any]]


@pytest.fixture
def sharing(settings: Settings, tmp_path: Path) -> Settings:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.create_model(NETWORK, pretrained=False)
    save_file(dict(network.state_dict()), tmp_path / f"{NETWORK}.safetensors")
    return settings.model_copy(update={"shard_images": 8, "weights_dir": tmp_path})


@dataclass
class Shared:
    """A job whose pieces are to be shared, in the hands of a worker."""

    work: Work
    count: int
    run: Callable[[RunningJob], None]
    held: Claim
    settings: Settings
    sessions: sessionmaker[Session]

    def found(self) -> list[Path]:
        paths = self.settings.work_dir.glob(f"*/{self.work}-*.npz")
        return sorted(path for path in paths if not path.stem.endswith("-begun"))

    def pieces(self) -> Pieces:
        assert len({path.parent for path in self.found()}) == 1, "all came to one content key"
        kept: dict[str, NDArray[Any]] = {}
        for path in self.found():
            with np.load(path) as arrays:
                kept |= {f"{path.stem}/{name}": arrays[name] for name in arrays.files}
        return kept

    def go_on(self, **settings: Any) -> None:
        """The job itself, until it has all its pieces."""
        case = self

        class UntilAllAreThere(RunningJob):
            def report(self, stage: str, progress: float) -> None:
                if len(case.found()) == case.count:
                    raise Cancelled
                super().report(stage, progress)

        job = UntilAllAreThere(
            read(self.sessions, self.held.job_id),
            self.held,
            self.settings.model_copy(update=settings),
            self.sessions,
            threading.Event(),
        )
        with pytest.raises(Cancelled):
            self.run(job)

    def offer(self, count: int) -> None:
        with transaction(self.sessions) as session:
            parts.offer(session, [Part(self.held.job_id, self.work, i, i + 1) for i in range(count)])

    def help(self, name: str, children: list[Child]) -> bool:
        """By a process of another worker, until there is nothing left to take."""

        class Watched(Supervisor):
            def start(self, job_id: UUID, **order: object) -> Child:
                child = super().start(job_id, **order)
                children.append(child)
                return child

        worker = Watched(self.settings, self.sessions, name, silent)
        return help_next(worker, [Lane.HEAVY], threading.Event())

    def help_and_die(self) -> None:
        """As `help`, but killed with its first piece done and others in hand."""
        children: list[Child] = []
        helping = threading.Thread(target=self.help, args=("dies", children))
        helping.start()
        deadline = time.monotonic() + PATIENCE_S
        while not self.found() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert self.found(), "the helper did nothing"
        kill(children[0])
        helping.join()


@pytest.fixture
def students(sharing: Settings, sessions: sessionmaker[Session]) -> Shared:
    with open_client(sharing) as api:
        dataset = made(api, *solar_cells(CELLS), data={"options": '{"purify": false}'})["dataset"]
    options = {"backbone": BACKBONE, "submodels": "student", "subsets": 3, "partitions": 1}
    job_id = add_job(sessions, UUID(dataset["id"]), JobKind.PURIFY, **options)
    return Shared(Work.STUDENT, 3, purify.run, claim(sessions, job_id), sharing, sessions)


@pytest.fixture
def domains(sharing: Settings, sessions: sessionmaker[Session]) -> Shared:
    with open_client(sharing) as api:
        line = new_line(api, sessions, sharing, cells=CELLS, suspects=1)
        with reading(sessions) as session:
            of_the_version = jobs.next_queued(session, [Lane.HEAVY])
        assert of_the_version is not None
        claim(sessions, of_the_version)  # nobody helps while a job is waiting
        with transaction(sessions) as session:
            session.execute(update(PurifiedItem).values(near_duplicates=[]))
        asked = line.ask("cdd", backbone=BACKBONE, domains=4, epochs=1, batch=2)
    held = claim(sessions, UUID(asked["job"]["id"]))
    return Shared(Work.DOMAIN, 4, train.run, held, sharing, sessions)


def alone(case: Shared) -> Pieces:
    """What the job finds by itself; then it is taken away again."""
    case.go_on(shard_images=0)
    found = case.pieces()
    for path in case.found():
        path.unlink()
    return found


def same(one: Pieces, other: Pieces) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_students_are_the_same_when_one_helper_dies_and_another_joins_late(students: Shared) -> None:
    expected = alone(students)
    students.offer(2)
    students.help_and_die()
    students.offer(3)
    students.help("comes late", [])
    assert "student-2" in {path.stem for path in students.found()}
    students.go_on()
    assert same(students.pieces(), expected)


def test_domain_students_are_the_same_when_their_helper_dies(domains: Shared) -> None:
    expected = alone(domains)
    domains.offer(4)
    domains.help_and_die()
    domains.go_on()
    assert same(domains.pieces(), expected)
