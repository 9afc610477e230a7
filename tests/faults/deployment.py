"""The service as production runs it: API, sweeper, two Celery workers; PostgreSQL; Redis behind a wire."""

import http.client
import signal
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import psutil

from siftline.settings import Settings
from siftline.store import migrate
from tests.acceptance.programs import Program, Programs, eventually
from tests.conftest import free_port
from tests.faults.network import Wire
from tests.faults.servers import Disk, PostgreSQL, Redis

NETWORK = "test_efficientnet"  # timm's smallest: programs start often here, and a larger one takes seconds
BACKBONE = f"timm:{NETWORK}"
WORKERS = 2
DISK_MIB = 512  # 23 of them stay with each purified set for a week: 192 were full after eight
JOB_SILENCE_S = 30.0
"""Longer than a job needs to load on a busy machine."""
GONE = (0, -signal.SIGTERM, 128 + signal.SIGTERM)
"""How a program may end that was asked to go: the last while it was still starting."""
GOODBYE_S = 60.0
"""A program asked to go must have gone by then, on a machine that is busy with everything else."""


class Deployment:
    """All programs and servers; whoever is killed is started again by `revive`, as an orchestrator would."""

    def __init__(self, folder: Path, *, lease_s: float, own_disk: bool) -> None:
        self.postgresql = PostgreSQL()
        self.redis = Redis(free_port(), folder)
        self.wire = Wire(self.redis.port)
        self.disk = Disk(folder / "disk", DISK_MIB) if own_disk else None
        self.settings = Settings(
            data_dir=folder / "disk" / "data",
            database_url=self.postgresql.url,
            redis_url=f"redis://127.0.0.1:{self.wire.port}/0",
            port=free_port(),
            lease_s=lease_s,
            job_silence_s=JOB_SILENCE_S,
            poll_s=0.2,
            sweep_s=0.5,
            cancel_grace_s=1.0,
            worker_nice=0,
            max_attempts=1000,
            weights_dir=write_random_weights(folder / "weights"),
            score_images=2,
            shard_images=8,  # so that idle workers help, and are killed while they do
        )
        self.settings.data_dir.mkdir(parents=True)
        migrate.upgrade(self.settings)
        self.programs = Programs(folder)
        self.lock = threading.RLock()
        """Held while a program is exchanged for a new one."""
        self.slots: dict[str, Program] = {}
        for slot in ("api", "sweeper", *(f"worker-{n}" for n in range(WORKERS))):
            self.start(slot)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.port}"

    def start(self, slot: str) -> None:
        command = slot.partition("-")[0]
        self.slots[slot] = self.programs.start(self.settings, "-m", "siftline", command)

    def end(self, slot: str, number: signal.Signals) -> str | None:
        """End a program and start its successor; what was wrong with the way it went."""
        with self.lock:
            program, wrong = self.slots[slot], None
            if program.poll() is not None:
                wrong = f"{slot} had ended by itself with code {program.returncode}"
            else:
                program.send_signal(number)
                try:
                    code = program.wait(GOODBYE_S)
                except subprocess.TimeoutExpired:
                    wrong = f"{slot} did not go within {GOODBYE_S:g} s of {number.name}"
                    program.kill()
                    program.wait(10)
                else:
                    if number == signal.SIGTERM and code not in GONE:
                        wrong = f"{slot} went with code {code} after SIGTERM"
            self.start(slot)
            return wrong

    def children(self) -> list[psutil.Process]:
        """The processes of jobs, of all workers."""
        found: list[psutil.Process] = []
        for slot, program in self.slots.items():
            with suppress(psutil.NoSuchProcess):
                if slot.startswith("worker") and program.poll() is None:
                    found += psutil.Process(program.pid).children()
        return found

    def left_behind(self) -> list[str]:
        """Job processes that no worker of ours has any more."""
        known = {child.pid for child in self.children()}
        ours = str(self.settings.data_dir)
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                command = process.cmdline()
                if "siftline_workers.child" in command and process.environ().get("SIFTLINE_DATA_DIR") == ours:
                    found += [] if process.pid in known else [f"{process.pid}: {process.status()}"]
        return found

    def answers(self, path: str) -> bool:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.settings.port, timeout=10)
            connection.request("GET", path)
            return connection.getresponse().status == 200
        except OSError:
            return False

    def wait_until_ready(self, within_s: float = 300.0) -> None:
        eventually(lambda: self.answers("/readyz"), within_s=within_s)

    def stop(self) -> None:
        self.programs.kill_all()

    def remove(self) -> None:
        self.stop()
        self.wire.close()
        self.redis.kill()
        self.postgresql.remove()
        if self.disk is not None:
            self.disk.remove()


def write_random_weights(folder: Path) -> Path:
    # Here, because the books are tested without all this.
    import timm
    import torch
    from safetensors.torch import save_file

    folder.mkdir()
    torch.manual_seed(0)
    network = timm.create_model(NETWORK, pretrained=False)
    save_file(dict(network.state_dict()), folder / f"{NETWORK}.safetensors")
    return folder
