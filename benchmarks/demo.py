"""600 real solar cells, 60 of them defective, through a real server: `make demo`.

They are ranked and split, a FUN-AD detector is trained on the clean ones, and judges 60 cells it has not
seen. What goes over HTTP is pixels under neutral names. The labels are read here, after the answers are in,
to say what is right. Writes ranking.json, contact-sheet.png, verdicts.png and server.log to out/demo.

Cells: ELPV dataset (Buerhop-Lutz et al. 2018, Deitsch et al. 2019, 2021), CC BY-NC-SA 4.0.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks import demo_detector
from benchmarks.demo_server import serving
from siftline import Client, SiftlineError
from siftline.cli.output import (
    JobProgress,
    duration,
    job_progress,
    print_purified,
    say,
    say_receipts,
    transfer_progress,
    write_json,
)
from siftline.imaging import SheetEntry, contact_sheet
from siftline.schemas import DatasetOptions, Job, Purified, PurifiedItem

LIST = Path(__file__).with_name("demo_list.json")
OUT = Path("out/demo")
SHEET_IMAGES = 16


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--keep", action="store_true", help="leave the server up until Ctrl-C")
    options.add_argument("--out", type=Path, default=OUT, help="folder to write to; emptied first")
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    began = time.monotonic()
    fresh(given.out)
    originals = zip_of_cells(given.out / "cells.zip")
    with serving(given.out) as url, Client(url) as client, said_in_one_line(given.out):
        say(f"Siftline is at {url}; open it to watch")
        split = purified_by(client, given.out / "cells.zip", given.seed)
        print_purified(split, top=10)
        for line in verdict_on(split, originals):
            say(line)
        write_json(given.out / "ranking.json", split)
        (given.out / "contact-sheet.png").write_bytes(sheet_of(client, split.items[:SHEET_IMAGES]))
        detector = demo_detector.detector_from(client, split)
        cells = demo_detector.neutral(demo_list("unseen"), elpv_folder() / "images")
        answer = demo_detector.judged_by(client, detector, cells)
        for line in demo_detector.lines_about(answer, defects_among(cells)):
            say(line)
        (given.out / "verdicts.png").write_bytes(demo_detector.sheet_of(answer, cells))
        say(f"\nDone in {duration(time.monotonic() - began)}. Written:")
        say(f"  {given.out / 'ranking.json'}        every image, ranked")
        say(f"  {given.out / 'contact-sheet.png'}   the {SHEET_IMAGES} most suspect beside their heat maps")
        say(f"  {given.out / 'verdicts.png'}        unseen cells, as the detector sees them")
        if given.keep:
            say(f"\nThe server stays at {url} until Ctrl-C: {url}/d/{split.dataset_id}")
            with suppress(KeyboardInterrupt):
                signal.pause()
    command = os.path.relpath(Path(sys.executable).with_name("siftline"))
    say(f"To look again: {command} serve --data-dir {given.out / 'data'}")
    say(f"then open http://127.0.0.1:8000/d/{split.dataset_id}")
    return 0


@contextmanager
def said_in_one_line(out: Path) -> Iterator[None]:
    try:
        yield
    except SiftlineError as error:
        raise SystemExit(f"{error.detail}\nThe server's log is {out / 'server.log'}") from error


def fresh(folder: Path) -> None:
    """An empty folder; only one that we made before is emptied."""
    if folder.exists() and any(folder.iterdir()) and not (folder / "cells.zip").exists():
        raise SystemExit(f"{folder} is not empty and was not made by this demo: choose another with --out")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def elpv_folder() -> Path:
    spec = find_spec("elpv_dataset")
    if spec is None or spec.origin is None:
        raise SystemExit("The demo's images are missing. Install them: pip install elpv-dataset")
    return Path(spec.origin).parent / "data"


def demo_list(name: str) -> list[str]:
    cells: list[str] = json.loads(LIST.read_text())[name]
    return cells


def zip_of_cells(path: Path) -> dict[str, str]:
    """Write the demo's cells under names that say nothing; returns original name by sent name."""
    cells = demo_list("cells")
    originals = {f"cell-{number:03}.png": cell for number, cell in enumerate(cells, start=1)}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, cell in originals.items():
            archive.write(elpv_folder() / "images" / cell, name)
    return originals


def purified_by(client: Client, archive: Path, seed: int) -> Purified:
    with transfer_progress("sending") as sent:
        created = client.upload("solar cells", [archive], DatasetOptions(seed=seed), sent)
    say_receipts(created.receipts)
    stages = StageTimes()
    with job_progress() as bar:
        client.wait(created.job, on_progress=lambda job: stages(job, bar))
    say(stages.line())
    return client.purified(created.dataset.id)


class StageTimes:
    """How long each stage took, as seen from outside."""

    def __init__(self) -> None:
        self.began: list[tuple[str, float]] = []

    def __call__(self, job: Job, bar: JobProgress) -> None:
        stage = job.stage or job.state
        if not self.began or self.began[-1][0] != stage:
            self.began.append((stage, time.monotonic()))
        bar(job)

    def line(self) -> str:
        ends = [at for _, at in self.began[1:]] + [time.monotonic()]
        spans = [f"{stage} {end - at:.0f} s" for (stage, at), end in zip(self.began, ends, strict=True)]
        return "stages: " + ", ".join(spans)


@dataclass(frozen=True, slots=True)
class Truth:
    """Which of the ranked images are defective, in order of rank."""

    defective: NDArray[np.bool_]
    suspect: NDArray[np.bool_]


def probabilities() -> dict[str, float]:
    """The labels: how likely the experts called each cell defective."""
    rows = (line.split() for line in (elpv_folder() / "labels.csv").read_text().splitlines())
    return {Path(path).name: float(value) for path, value, _ in rows}


def defects_among(cells: Mapping[str, Path]) -> dict[str, bool]:
    probability = probabilities()
    return {name: probability[path.name] == 1.0 for name, path in cells.items()}


def truth_of(split: Purified, originals: dict[str, str]) -> Truth:
    """The labels, met with the answer for the first time here."""
    probability = probabilities()
    return Truth(
        defective=np.array([probability[originals[item.name]] == 1.0 for item in split.items]),
        suspect=np.array([item.verdict == "suspect" for item in split.items]),
    )


def verdict_on(split: Purified, originals: dict[str, str]) -> list[str]:
    """What the labels say about the split."""
    truth = truth_of(split, originals)
    defective, total = truth.defective, int(truth.defective.sum())
    found, suspects = int((defective & truth.suspect).sum()), int(truth.suspect.sum())
    hits = np.flatnonzero(defective)
    average_precision = float(np.mean((np.arange(total) + 1) / (hits + 1)))
    good_below = (~defective)[::-1].cumsum()[::-1][hits]
    auroc = float(good_below.mean() / (len(defective) - total))
    precision = f" (precision {found / suspects:.0%})" if suspects else ""
    return [
        f"labels         {found} of the {suspects} suspects are real defects{precision}, "
        f"{found} of {total} defects were found (recall {found / total:.0%})",
        f"               true contamination {total / len(defective):.1%}; of the {total} most suspect images "
        f"{int(defective[:total].sum())} are defects",
        f"               ranking: AUROC {auroc:.3f}, average precision {average_precision:.3f}",
    ]


def sheet_of(client: Client, items: list[PurifiedItem]) -> bytes:
    """The images and their heat maps, fetched as anybody would."""
    return contact_sheet(
        [
            SheetEntry(
                rgb=pixels(client.image_file(item.image_id, "content")),
                heat=pixels(client.image_file(item.image_id, "heatmap")),
                caption=f"{item.rank}.  {item.name}  p {item.p_anomalous:.2f}",
            )
            for item in items
        ]
    )


def pixels(encoded: bytes) -> NDArray[np.uint8]:
    with Image.open(BytesIO(encoded)) as image:
        return np.asarray(image.convert("RGB"))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
