"""Seconds a stage and peak memory of the whole purification, for sets of several sizes.

python -m benchmarks.speed [--counts 500 1000 2000] [--pictures DIR] [--work DIR] [--out FILE]

Beside each: one bare backbone pass over the same images, in the same run. Each measurement is a process of
its own, the job itself on a database of its own. The bare pass comes first and leaves the network converted,
as any earlier job of a data folder does; imports and loading count for the purification, not for the pass.
A row is written as soon as a count is done, and a count that has a row in FILE is not measured again.
Processor time is what counts where other work runs beside; wall clock is shown too. The growth exponent is
the slope of log time against log images.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np

from benchmarks.speed_set import add_images, new_dataset, new_purification, pictures
from siftline.settings import Settings
from siftline.store.migrate import upgrade
from siftline.store.session import make_engine, session_factory

Figures = dict[str, dict[str, float]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--counts", nargs="+", type=int, default=[500, 1000, 2000])
    parser.add_argument("--pictures", type=Path, default=Path("out/speed-pictures"))
    parser.add_argument(
        "--work", type=Path, default=None, help="where data folders go; same disk as --pictures"
    )
    parser.add_argument("--out", type=Path, default=Path("out/speed.jsonl"))
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    rows = _rows(arguments.out)
    totals = {}
    for count in arguments.counts:
        if count not in rows:
            work = arguments.work or arguments.pictures.parent
            rows[count] = _measured(pictures(arguments.pictures, count), work)
            bare, run = rows[count]
            with arguments.out.open("a") as file:
                file.write(json.dumps({"count": count, "bare": bare, "run": run}) + "\n")
        bare, run = rows[count]
        totals[count] = run
        show(f"{count} images: one bare backbone pass", {"pass": bare["pass"]}, count)
        show(f"{count} images: purification", run, count)
        ratios = {unit: total(run)[unit] / bare["pass"][unit] for unit in ("cpu", "wall")}
        print(f"ratio to the bare pass: CPU {ratios['cpu']:.2f}, wall {ratios['wall']:.2f}", flush=True)
    if len(totals) > 1:
        counts = np.log(list(totals))
        for unit in ("cpu", "wall"):
            seconds = np.log([total(run)[unit] for run in totals.values()])
            print(f"growth exponent ({unit}): {np.polyfit(counts, seconds, 1)[0]:.3f}")


def _rows(file: Path) -> dict[int, tuple[Figures, Figures]]:
    """What an earlier call measured; a torn last line is measured again."""
    found = {}
    for line in file.read_text().splitlines() if file.exists() else ():
        with suppress(json.JSONDecodeError):
            row = json.loads(line)
            found[row["count"]] = row["bare"], row["run"]
    return found


def _measured(paths: list[Path], work: Path) -> tuple[Figures, Figures]:
    with tempfile.TemporaryDirectory(dir=work) as folder:
        settings = Settings(data_dir=Path(folder))
        upgrade(settings)
        sessions = session_factory(make_engine(settings.sqlalchemy_url))
        dataset_id = new_dataset(sessions)
        add_images(sessions, settings, dataset_id, paths)
        bare = child("bare", folder)
        run = child("purify", folder, str(new_purification(sessions, dataset_id)))
        return bare, run


def child(*arguments: str) -> Figures:
    """What `benchmarks.speed_child` prints."""
    command = [sys.executable, "-m", "benchmarks.speed_child", *arguments]
    answer: Figures = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return answer


def total(run: Figures) -> dict[str, float]:
    """Seconds of all stages together, memory of the greediest."""
    parts = list(run.values())
    seconds = {unit: sum(stage[unit] for stage in parts) for unit in ("wall", "cpu")}
    return seconds | {unit: max(stage[unit] for stage in parts) for unit in ("peak_mib", "anonymous_mib")}


def show(title: str, run: Figures, count: int) -> None:
    print(f"\n{title}")
    print(f"{'':22}{'wall s':>9}{'CPU s':>9}{'CPU ms/image':>14}{'peak MiB':>10}{'own MiB':>9}")
    for name, stage in {**run, "whole": total(run)}.items():
        print(
            f"{name:22}{stage['wall']:9.1f}{stage['cpu']:9.1f}{1000 * stage['cpu'] / count:14.2f}"
            f"{stage['peak_mib']:10.0f}{stage['anonymous_mib']:9.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
