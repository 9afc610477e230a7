"""What may go wrong. Each fault takes the deployment and a source of chance and returns when it is over;
what it returns is a complaint, if the service behaved badly already while it happened."""

import signal
import time
from collections.abc import Callable, Mapping
from random import Random

import psutil

from tests.faults.deployment import WORKERS, Deployment
from tests.faults.servers import send

Fault = Callable[[Deployment, Random], str | None]
LONGEST_OUTAGE_S = 3.0
NOTHING_TO_BREAK = "there was nothing to break"


def chance(seed: int, of: str) -> Random:
    """A source of its own for each thread: what one draws does not change what the others meet."""
    return Random(f"{seed} {of}")  # noqa: S311 - chance, not secrecy


def kill_worker(there: Deployment, chance: Random) -> str | None:
    return there.end(f"worker-{chance.randrange(WORKERS)}", signal.SIGKILL)


def stop_worker(there: Deployment, chance: Random) -> str | None:
    return there.end(f"worker-{chance.randrange(WORKERS)}", signal.SIGTERM)


def kill_child(there: Deployment, chance: Random) -> str | None:
    """The process of a job; when none runs just now, nothing happens."""
    children = there.children()
    if not children:
        return NOTHING_TO_BREAK
    send(chance.choice(children).pid, signal.SIGKILL)
    return None


def kill_api(there: Deployment, _chance: Random) -> str | None:
    return there.end("api", signal.SIGKILL)


def stop_api(there: Deployment, _chance: Random) -> str | None:
    return there.end("api", signal.SIGTERM)


def kill_sweeper(there: Deployment, _chance: Random) -> str | None:
    return there.end("sweeper", signal.SIGKILL)


def kill_redis(there: Deployment, chance: Random) -> str | None:
    there.redis.kill()
    time.sleep(chance.uniform(0, LONGEST_OUTAGE_S))
    there.redis.start()
    return None


def kill_postgresql(there: Deployment, chance: Random) -> str | None:
    there.postgresql.kill()
    time.sleep(chance.uniform(0, LONGEST_OUTAGE_S))
    there.postgresql.start()
    return None


def cut_network(there: Deployment, chance: Random) -> str | None:
    """Redis: connections reset, new ones refused."""
    there.wire.cut()
    time.sleep(chance.uniform(0.2, LONGEST_OUTAGE_S))
    there.wire.heal()
    return None


def hold_network(there: Deployment, chance: Random) -> str | None:
    """Redis: silence, then everything arrives late."""
    there.wire.hold()
    time.sleep(chance.uniform(1.0, 2 * LONGEST_OUTAGE_S))
    there.wire.heal()
    return None


def freeze_worker(there: Deployment, chance: Random) -> str | None:
    """A worker whose clock stands still beyond its lease, its job's process with it or not."""
    slot = f"worker-{chance.randrange(WORKERS)}"
    worker = there.slots[slot]
    frozen = [worker.pid]
    if chance.random() < 0.5:
        frozen += [child.pid for child in _children_of(worker.pid)]
    for pid in frozen:
        send(pid, signal.SIGSTOP)
    time.sleep(there.settings.lease_s + chance.uniform(1.0, 3.0))
    for pid in frozen:
        send(pid, signal.SIGCONT)
    return None


def freeze_child(there: Deployment, chance: Random) -> str | None:
    """The process of a job stands still and nobody wakes it; its worker lives and keeps the lease."""
    children = there.children()
    if not children:
        return NOTHING_TO_BREAK
    send(chance.choice(children).pid, signal.SIGSTOP)
    return None


def fill_disk(there: Deployment, chance: Random) -> str | None:
    if there.disk is None or not there.disk.can_be_filled:
        return NOTHING_TO_BREAK
    there.disk.fill()
    time.sleep(chance.uniform(0.5, LONGEST_OUTAGE_S))
    there.disk.drain()
    return None


KILLS: Mapping[str, tuple[Fault, float]] = {
    "kill -9 worker": (kill_worker, 3),
    "SIGTERM worker": (stop_worker, 1.5),
    "kill -9 job process": (kill_child, 3),
    "kill -9 API": (kill_api, 2),
    "SIGTERM API": (stop_api, 1),
    "kill -9 sweeper": (kill_sweeper, 1),
    "kill -9 Redis": (kill_redis, 1),
    "kill -9 PostgreSQL": (kill_postgresql, 1.5),
}
"""With how often each is chosen."""

TROUBLES: Mapping[str, tuple[Fault, float]] = {
    "network to Redis cut": (cut_network, 1),
    "network to Redis silent": (hold_network, 1),
    "worker frozen beyond its lease": (freeze_worker, 2),
    "job process frozen for ever": (freeze_child, 1),
    "disk full": (fill_disk, 1),
}
"""What is no kill: happens beside the kills."""


def _children_of(pid: int) -> list[psutil.Process]:
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.NoSuchProcess:
        return []
