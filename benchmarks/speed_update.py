"""A batch into a purified set, against the same images purified from nothing: cost and agreement.

python -m benchmarks.speed_update [--count 2000] [--share 0.05] [--pictures DIR]

Two datasets: one purified with COUNT images, then with a batch of SHARE more; the other with all at once. All
in one run; pictures as in benchmarks.speed.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from uuid import UUID

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from benchmarks.speed import Figures, child, show
from benchmarks.speed_set import add_images, new_dataset, new_purification, pictures
from siftline.settings import Settings
from siftline.store import purifications
from siftline.store.migrate import upgrade
from siftline.store.models import Image, PurifiedItem
from siftline.store.session import make_engine, reading, session_factory


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--pictures", type=Path, default=Path("out/speed-pictures"))
    arguments = parser.parse_args()
    before, added = arguments.count, round(arguments.share * arguments.count)
    paths = pictures(arguments.pictures, before + added)
    with tempfile.TemporaryDirectory(dir=arguments.pictures.parent) as folder:
        sessions, settings = _store(Path(folder) / "grown")
        grown = new_dataset(sessions)
        add_images(sessions, settings, grown, paths[:before])
        show(f"{before} images from nothing", _purified(sessions, settings, grown), before)
        add_images(sessions, settings, grown, paths[before:])
        update = _purified(sessions, settings, grown)
        show(f"{added} images added to them", update, added)
        others, other_settings = _store(Path(folder) / "whole")
        whole = new_dataset(others)
        add_images(others, other_settings, whole, paths)
        full = _purified(others, other_settings, whole)
        show(f"{before + added} images from nothing", full, before + added)
        again = _purified(others, other_settings, whole, seed=1)
        show("the same again with another seed, features kept", again, before + added)
        for name, other in (("from nothing", full), ("features kept", again)):
            print(f"update / {name}: CPU {_cpu(update) / _cpu(other):.3f}")
        _compare("update and from nothing", _answer(sessions, grown), _answer(others, whole, 1))
        _compare("from nothing and another seed", _answer(others, whole), _answer(others, whole, 1))


def _store(folder: Path) -> tuple[sessionmaker[Session], Settings]:
    folder.mkdir()
    settings = Settings(data_dir=folder)
    upgrade(settings)
    return session_factory(make_engine(settings.sqlalchemy_url)), settings


def _purified(
    sessions: sessionmaker[Session], settings: Settings, dataset_id: UUID, seed: int = 0
) -> Figures:
    return child("purify", str(settings.data_dir), str(new_purification(sessions, dataset_id, seed)))


def _cpu(figures: Figures) -> float:
    return sum(stage["cpu"] for stage in figures.values())


def _answer(
    sessions: sessionmaker[Session], dataset_id: UUID, version: int | None = None
) -> dict[str, tuple[float, float, str]]:
    """Score, probability and verdict by content, of a version or the newest."""
    with reading(sessions) as session:
        found = (
            purifications.latest(session, dataset_id)
            if version is None
            else purifications.numbered(session, dataset_id, version)
        )
        if found is None:
            raise ValueError("no version was written")
        print(f"version {found.version}: {found.contamination['estimate']:.4f} contaminated, {found.counts}")
        rows = session.execute(
            select(Image.sha256, PurifiedItem.score, PurifiedItem.p_anomalous, PurifiedItem.verdict)
            .join(Image, Image.id == PurifiedItem.image_id)
            .where(PurifiedItem.purification_id == found.id)
        )
        return {sha256: (score, p, verdict) for sha256, score, p, verdict in rows}


def _compare(
    name: str, one: dict[str, tuple[float, float, str]], other: dict[str, tuple[float, float, str]]
) -> None:
    ids = sorted(one)
    scores = [np.array([answer[i][0] for i in ids]) for answer in (one, other)]
    correlation = np.corrcoef([values.argsort().argsort() for values in scores])[0, 1]
    change = np.abs([one[i][1] - other[i][1] for i in ids])
    moved = [i for i in ids if one[i][2] != other[i][2]]
    suspects = sum(other[i][2] == "suspect" for i in ids)
    print(
        f"{name}: rank correlation {correlation:.5f}, p differs by {change.mean():.4f} on average and "
        f"{change.max():.3f} at most, {len(moved)} of {len(ids)} verdicts differ ({suspects} suspects)"
    )


if __name__ == "__main__":
    main()
