"""A batch into a purified set, against the same images purified from nothing: cost and agreement.

python -m benchmarks.speed_update [--count 2000] [--share 0.05] [--pictures DIR] [--features DIR]

Two datasets: one purified with COUNT images, then with a batch of SHARE more; the other with all at once. All
in one run; pictures as in benchmarks.speed. The features of those already purified are kept in both, so the
second is compared as a run that extracts as little as the update does. With --features those of the first
COUNT are taken from an earlier run's cache, which only saves time.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from uuid import UUID

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from benchmarks.speed import Figures, child, show, total
from benchmarks.speed_set import add_images, new_dataset, new_purification, pictures
from siftline.settings import Settings
from siftline.store import purifications
from siftline.store.migrate import upgrade
from siftline.store.models import Image, PurifiedItem
from siftline.store.session import make_engine, reading, session_factory

Answer = dict[str, tuple[float, float, str]]
"""Score, probability and verdict of each image, by its content."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--pictures", type=Path, default=Path("out/speed-pictures"))
    parser.add_argument("--features", type=Path, help="a data folder's `features`, on the same disk")
    arguments = parser.parse_args()
    before, added = arguments.count, round(arguments.share * arguments.count)
    paths = pictures(arguments.pictures, before + added)
    with tempfile.TemporaryDirectory(dir=arguments.pictures.parent) as folder:
        sessions, settings = _store(Path(folder) / "grown")
        grown = new_dataset(sessions)
        add_images(sessions, settings, grown, paths[:before])
        if arguments.features:
            _linked(settings, arguments.features, paths[:before])
        show(f"{before} images", _purified(sessions, settings, grown), before)
        features = Path(folder) / "features"
        shutil.copytree(settings.features_dir, features, copy_function=os.link)
        add_images(sessions, settings, grown, paths[before:])
        update = _purified(sessions, settings, grown)
        show(f"{added} images added to them (CPU ms of one of these)", update, added)
        others, other_settings = _store(Path(folder) / "whole")
        features.rename(other_settings.features_dir)
        whole = new_dataset(others)
        add_images(others, other_settings, whole, paths)
        full = _purified(others, other_settings, whole)
        show(f"{before + added} images, the features of {before} kept", full, before + added)
        print(f"\nupdate / full: CPU {total(update)['cpu'] / total(full)['cpu']:.3f}")
        _compare(_answer(sessions, grown), _answer(others, whole))


def _linked(settings: Settings, features: Path, paths: list[Path]) -> None:
    wanted = {hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    for kept in features.rglob("*.npy"):
        if kept.stem in wanted:
            target = settings.features_dir / kept.relative_to(features)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.hardlink_to(kept)


def _store(folder: Path) -> tuple[sessionmaker[Session], Settings]:
    folder.mkdir()
    settings = Settings(data_dir=folder)
    upgrade(settings)
    return session_factory(make_engine(settings.sqlalchemy_url)), settings


def _purified(sessions: sessionmaker[Session], settings: Settings, dataset_id: UUID) -> Figures:
    return child("purify", str(settings.data_dir), str(new_purification(sessions, dataset_id)))


def _answer(sessions: sessionmaker[Session], dataset_id: UUID) -> Answer:
    with reading(sessions) as session:
        found = purifications.latest(session, dataset_id)
        if found is None:
            raise ValueError("no version was written")
        print(f"version {found.version}: {found.contamination['estimate']:.4f} contaminated, {found.counts}")
        rows = session.execute(
            select(Image.sha256, PurifiedItem.score, PurifiedItem.p_anomalous, PurifiedItem.verdict)
            .join(Image, Image.id == PurifiedItem.image_id)
            .where(PurifiedItem.purification_id == found.id)
        )
        return {sha256: (score, p, verdict) for sha256, score, p, verdict in rows}


def _compare(one: Answer, other: Answer) -> None:
    ids = sorted(one)
    scores = [np.array([answer[i][0] for i in ids]) for answer in (one, other)]
    correlation = np.corrcoef([values.argsort().argsort() for values in scores])[0, 1]
    change = np.abs([one[i][1] - other[i][1] for i in ids])
    moved = [i for i in ids if one[i][2] != other[i][2]]
    suspects = sum(other[i][2] == "suspect" for i in ids)
    print(
        f"rank correlation {correlation:.5f}, p differs by {change.mean():.4f} on average and "
        f"{change.max():.3f} at most, {len(moved)} of {len(ids)} verdicts differ ({suspects} suspects)"
    )


if __name__ == "__main__":
    main()
