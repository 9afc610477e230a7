"""Fuzz the image verifier and the archive reader for a while, in children that may die.

    python -m benchmarks.fuzz --minutes 10 --seed 0

Prints how often what came out; a case that breaks what must hold (tests/fuzzing.py), kills the process, takes
more than 5 s of processor time or makes it grow by more than 300 MB is kept in `--out` and is a finding.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from siftline.store.spool import Spool, SpoolFolder
from tests import fuzzing
from tests.fuzzing import Step

CASES_A_CHILD = 4000
SLOW_S = 5.0
GROWTH_KB = 300 * 1024


def one(chance: random.Random, target: str) -> bytes:
    seeds = fuzzing.images() if target == "image" else fuzzing.archives()
    steps = [
        Step(chance.choice(fuzzing.KINDS), chance.random(), chance.random(), chance.randrange(2**16))
        for _ in range(chance.randint(1, 8))
    ]
    data = fuzzing.changed(chance.choice(seeds), steps, seeds)
    if target == "archive":
        return fuzzing.packed(data, gzipped=chance.random() < 0.3)
    return fuzzing.with_right_checksums(data) if chance.random() < 0.7 else data


@contextmanager
def opened(folder: str) -> Iterator[SpoolFolder]:
    spool = Spool(Path(folder))
    spool.open()
    with spool.folder() as inside:
        yield inside
    spool.close()


def child(target: str, seed: int, out: Path) -> None:
    """Judge some cases; the last line of standard output says what came out of them."""
    chance, counts = random.Random(seed), Counter[str]()  # noqa: S311 - no secret
    last = out / f"{target}-{seed}.last"
    with tempfile.TemporaryDirectory(prefix="siftline-fuzz-") as temporary, opened(temporary) as folder:
        fuzzing.judge_image(fuzzing.images()[0])
        for number in range(CASES_A_CHILD):
            data = one(chance, target)
            last.write_bytes(data)  # should the process die of it
            counts[_judged(target, data, folder, out / f"{target}-{seed}-{number}")] += 1
    last.unlink()
    print(json.dumps(counts))


def _judged(target: str, data: bytes, folder: SpoolFolder, keep: Path) -> str:
    began, size = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        found = fuzzing.judge_image(data) if target == "image" else fuzzing.judge_archive(data, folder)
    except Exception:
        keep.with_suffix(".txt").write_text(traceback.format_exc())
        found = "FINDING: raised"
    if time.process_time() - began > SLOW_S:
        found = "FINDING: slow"
    if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - size > GROWTH_KB:
        found = "FINDING: memory"
    if found.startswith("FINDING"):
        keep.write_bytes(data)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/fuzz"))
    parser.add_argument("--child", choices=("image", "archive"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.child:
        child(given.child, given.seed, given.out)
        return
    found = {"image": Counter[str](), "archive": Counter[str]()}
    ends, seed = time.monotonic() + 60 * given.minutes, given.seed
    while time.monotonic() < ends:
        for target, counts in found.items():
            command = [sys.executable, "-m", "benchmarks.fuzz", "--child", target, "--seed", str(seed)]
            command += ["--out", str(given.out)]
            ran = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
            if ran.returncode:
                counts["FINDING: the process died"] += 1  # its case is kept under `.last`
            else:
                counts.update(json.loads(ran.stdout.splitlines()[-1]))
        seed += 1
    for target, counts in found.items():
        print(f"{target}: {counts.total():,} cases")
        for what, count in counts.most_common():
            print(f"  {count:>9,}  {what}")


if __name__ == "__main__":
    main()
