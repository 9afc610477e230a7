"""A deployment, people at work, things that break; then quiet, and the books are checked."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from siftline.garbage import collect
from siftline.settings import Settings
from siftline.store.blobs_open import open_blobs
from siftline.store.session import make_engine, session_factory
from tests.acceptance.programs import eventually
from tests.faults import invariants
from tests.faults.deployment import Deployment
from tests.faults.invariants import Database
from tests.faults.kinds import KILLS, NOTHING_TO_BREAK, TROUBLES, Fault, chance
from tests.faults.repeated import Repeated, forget_what_was_computed
from tests.faults.traffic import Caller, Ledger, Lines

Choice = Mapping[str, tuple[Fault, float]]


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int
    kills: int
    minutes: float
    callers: int = 3
    trouble_every_s: float = 6.0
    lease_s: float = 6.0
    patience_s: float = 900.0
    """For what was begun to end once nothing breaks any more, and for the repetition."""
    repeat: int = 1000
    lines: int | None = None
    """Most lines of one caller."""
    trains: bool = True


@dataclass
class Report:
    faults: Counter[str] = field(default_factory=Counter)
    invariants: dict[str, list[str]] = field(default_factory=dict)
    facts: dict[str, object] = field(default_factory=dict)

    @property
    def broken(self) -> list[str]:
        return [f"{name}: {what}" for name, all_of in self.invariants.items() for what in all_of]


@contextmanager
def deployed(folder: Path, plan: Plan, *, own_disk: bool) -> Iterator[Deployment]:
    there = Deployment(folder, lease_s=plan.lease_s, own_disk=own_disk)
    try:
        there.wait_until_ready()
        yield there
    finally:
        there.remove()


@dataclass
class Breaker:
    """Breaks something every few seconds, by chance but by the seed's, in a thread of its own."""

    there: Deployment
    ledger: Ledger
    chance: Random
    choice: Choice
    every_s: float
    happened: Counter[str] = field(default_factory=Counter)

    def start(self, until: Callable[[], bool]) -> threading.Thread:
        thread = threading.Thread(target=self._go_on, args=(until,), daemon=True)
        thread.start()
        return thread

    def _go_on(self, until: Callable[[], bool]) -> None:
        names, weights = list(self.choice), [weight for _, weight in self.choice.values()]
        while not until():
            time.sleep(self.chance.uniform(0.2, 1.8) * self.every_s)
            name = self.chance.choices(names, weights)[0]
            try:
                complaint = self.choice[name][0](self.there, self.chance)
            except Exception as error:  # the thread must tell, not vanish
                complaint = f"{name}: {error!r}"
            if complaint != NOTHING_TO_BREAK:
                self.happened[name] += 1
                if complaint is not None:
                    self.ledger.complain(complaint)


def disturb(there: Deployment, plan: Plan, ledger: Ledger, report: Report) -> None:
    """Returns when all faults have happened and everything that was begun has ended."""
    began = time.monotonic()
    last_line = began + 60 * plan.minutes
    killer = Breaker(there, ledger, chance(plan.seed, "kills"), KILLS, 60 * plan.minutes / plan.kills)
    troubler = Breaker(there, ledger, chance(plan.seed, "troubles"), TROUBLES, plan.trouble_every_s)
    lines = [
        Lines(
            there.url, ledger, chance(plan.seed, f"line {n}"), n, plan.callers, plan.lines, plan.trains
        ).start(last_line, last_line + plan.patience_s)
        for n in range(plan.callers)
    ]
    kills = killer.start(lambda: killer.happened.total() == plan.kills)
    troubles = troubler.start(lambda: not kills.is_alive())
    kills.join()
    troubles.join()
    report.facts["seconds of faults"] = round(time.monotonic() - began)
    for line in lines:
        line.join()
    report.facts["seconds until the last line ended"] = round(time.monotonic() - began)
    report.faults = killer.happened + troubler.happened


def run(folder: Path, plan: Plan, *, own_disk: bool) -> Report:
    report, ledger = Report(), Ledger()
    with deployed(folder, plan, own_disk=own_disk) as there:
        database = Database(there.postgresql.url)
        database.install_witness()
        disturb(there, plan, ledger, report)
        there.wait_until_ready()
        _wait_for_quiet(database, plan.patience_s)
        blobs = there.settings.blobs_dir
        report.facts["blobs of no row before collection"] = len(invariants.orphans(database, blobs))
        report.facts["collected"] = collect_now(there.settings)
        forget_what_was_computed(there.settings)
        repeated = Repeated(Caller(there.url, ledger, time.monotonic() + plan.patience_s))
        repeated.ask_again(database, ledger, plan.repeat)
        differences = list(repeated.differences())
        _facts(report, database, ledger, repeated)
        report.invariants = {
            "no answer that must not be, no program that ends badly": ledger.complaints,
            **invariants.books(database, ledger, blobs),
            "as if nothing had broken": differences,
            "no process left behind": there.left_behind(),
        }
    return report


def _wait_for_quiet(database: Database, patience_s: float) -> None:
    unfinished = "SELECT count(*) FROM jobs WHERE state IN ('queued', 'running', 'cancelling')"
    eventually(lambda: database.rows(unfinished) == [(0,)], within_s=patience_s)


def collect_now(settings: Settings) -> str:
    """Garbage collection now, when no upload is under way that a grace would be for."""
    engine = make_engine(settings.sqlalchemy_url)
    at_once = settings.model_copy(update={"gc_grace_s": 0.0})
    freed = collect(session_factory(engine), at_once, open_blobs(settings), everything=True)
    engine.dispose()
    return ", ".join(f"{what.count} {kind}" for kind, what in freed.items())


def _facts(report: Report, database: Database, ledger: Ledger, repeated: Repeated) -> None:
    by_state = database.rows("SELECT kind || ' ' || state, count(*) FROM jobs GROUP BY 1 ORDER BY 1")
    again = "SELECT reason, count(*) FROM job_moves WHERE state = 'queued' GROUP BY 1 ORDER BY 2 DESC"
    report.facts |= {
        "requests": ledger.requests,
        "requests sent again": ledger.sent_again,
        "datasets": len(ledger.datasets),
        "datasets deleted": len(ledger.deleted),
        "202s": len(ledger.jobs),
        "images scored": len(ledger.scores),
        "versions compared": len(repeated.versions),
        "detectors compared": len(repeated.detectors),
    }
    report.facts |= {f"jobs: {kind}": count for kind, count in by_state}
    report.facts |= {f"queued because: {reason}": count for reason, count in database.rows(again)}
