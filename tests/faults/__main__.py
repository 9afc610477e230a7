"""python -m tests.faults --kills 300 --seed 1 --minutes 20"""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from tests.faults.bench import Plan, Report, run


def show(report: Report) -> str:
    lines = [f"{name:45} {count:6}" for name, count in sorted(report.faults.items())]
    lines += [f"{'faults in all':45} {report.faults.total():6}", ""]
    lines += [f"{name:70} {count}" for name, count in report.facts.items()]
    lines.append("")
    for name, broken in report.invariants.items():
        lines.append(f"{name:60} {'holds' if not broken else f'BROKEN {len(broken)} times'}")
        lines += [f"    {what}" for what in broken[:20]]
    return "\n".join(lines)


def keep_logs(folder: Path, where: Path) -> None:
    where.mkdir(parents=True, exist_ok=True)
    for log in folder.glob("program-*.log"):
        shutil.copy(log, where)
    print(f"logs of all programs: {where}\n")  # noqa: T201 - what it is for


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    options.add_argument("--kills", type=int, default=300)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--minutes", type=float, default=20.0, help="in which the kills are spread")
    options.add_argument("--callers", type=int, default=3)
    options.add_argument("--lease", type=float, default=6.0, metavar="S")
    options.add_argument("--patience", type=float, default=900.0, metavar="S")
    options.add_argument("--repeat", type=int, default=1000, help="at most so many versions, and detectors")
    options.add_argument(
        "--keep", type=Path, help="folder for the logs, which are kept anyway when something broke"
    )
    given = options.parse_args()
    plan = Plan(
        given.seed,
        given.kills,
        given.minutes,
        given.callers,
        lease_s=given.lease,
        patience_s=given.patience,
        repeat=given.repeat,
    )
    folder, held = Path(tempfile.mkdtemp(prefix="siftline-faults-")), False
    try:
        report = run(folder, plan, own_disk=True)
        held = not report.broken
    finally:
        if given.keep is not None or not held:
            keep_logs(folder, given.keep or folder.with_name(f"{folder.name}-logs"))
        shutil.rmtree(folder, ignore_errors=True)
    machine = f"{os.cpu_count()} processors, load average {os.getloadavg()[0]:.1f}"
    print(f"seed {plan.seed}, {machine}\n\n{show(report)}")  # noqa: T201 - what it is for
    sys.exit(1 if report.broken else 0)


if __name__ == "__main__":
    main()
