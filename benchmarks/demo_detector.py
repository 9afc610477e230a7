"""The demo's second half: a detector trained on the clean cells judges cells that nobody has shown it."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from siftline import Client
from siftline.cli.output import job_progress, say
from siftline.imaging import SheetEntry, contact_sheet
from siftline.schemas import Detector, NewFunad, Purified, ScoreAnswer, ScoredImage

SHOWN_HIGHEST, SHOWN_LOWEST = 12, 4


def detector_from(client: Client, split: Purified) -> Detector:
    """FUN-AD on the clean images of the split, trained by the server's worker."""
    say("\nTraining FUN-AD on the clean cells")
    created = client.train(NewFunad(dataset_id=split.dataset_id, version=split.version, method="funad"))
    with job_progress() as bar:
        client.wait(created.job, on_progress=bar)
    detector = client.detector(created.detector.id)
    card, size = detector.calibration, sum(artifact.bytes for artifact in detector.artifacts)
    if card is not None:
        say(
            f"detector       {detector.id}: {card.method} on {card.n} cells, "
            f"at most {card.target_fpr:.0%} of good cells called defect; {size / 2**20:.0f} MiB of artifacts"
        )
    return detector


def judged_by(client: Client, detector: Detector, cells: Mapping[str, Path]) -> ScoreAnswer:
    """Cells under neutral names, sent as files that are no part of any dataset."""
    sent = [path.read_bytes() for path in cells.values()]
    answer = client.score(detector.id, sent, explain="map")
    names = list(cells)
    renamed = [item.model_copy(update={"name": name}) for item, name in zip(answer.items, names, strict=True)]
    return answer.model_copy(update={"items": renamed})


def lines_about(answer: ScoreAnswer, defective: Mapping[str, bool]) -> list[str]:
    """What the labels, met here for the first time, say about the verdicts."""
    told: Counter[tuple[str, bool]] = Counter((item.verdict, defective[item.name]) for item in answer.items)
    lines = ["verdict      good cells  defective cells"]
    lines += [
        f"{word:12} {told[word, False]:10} {told[word, True]:16}" for word in ("ok", "review", "defect")
    ]
    good = np.array([item.score for item in answer.items if not defective[item.name]])
    bad = np.array([item.score for item in answer.items if defective[item.name]])
    auroc = float((bad[:, None] > good).mean() + (bad[:, None] == good).mean() / 2)
    return [*lines, f"unseen cells: AUROC {auroc:.3f}"]


def sheet_of(answer: ScoreAnswer, cells: Mapping[str, Path]) -> bytes:
    """The highest scores and the lowest beside their maps, as PNG."""
    ordered = sorted(answer.items, key=lambda item: -item.score)
    return contact_sheet(
        [_entry(item, cells[item.name]) for item in (*ordered[:SHOWN_HIGHEST], *ordered[-SHOWN_LOWEST:])]
    )


def _entry(item: ScoredImage, path: Path) -> SheetEntry:
    encoded = base64.b64decode((item.map_url or "").partition(",")[2])
    return SheetEntry(
        rgb=_pixels(path.read_bytes()),
        heat=_pixels(encoded),
        caption=f"{item.verdict}  {item.name}  p {item.p_value:.3f}",
    )


def _pixels(encoded: bytes) -> NDArray[np.uint8]:
    with Image.open(BytesIO(encoded)) as image:
        return np.asarray(image.convert("RGB"))


def neutral(cells: Sequence[str], folder: Path) -> dict[str, Path]:
    """Names that say nothing -> files."""
    return {f"unseen-{number:02}.png": folder / cell for number, cell in enumerate(cells, start=1)}
