"""Images per second and peak memory of feature extraction, end to end: read, decode, tile, network, cache.

python -m benchmarks.extraction_speed FOLDER [--count 600] [--backbone lite] [--weights-dir DIR]
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import tempfile
from pathlib import Path
from time import perf_counter, process_time

import numpy as np

from siftline_workers.methods.backbones import find_weights, load_backbone, preset_named
from siftline_workers.pipeline.extract import StoredImage, extract
from siftline_workers.pipeline.feature_cache import FeatureCache


def stored_images(folder: Path, count: int) -> list[StoredImage]:
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".png", ".tif", ".bmp"))
    picked = np.random.default_rng(0).permutation(len(paths))[:count]
    return [
        StoredImage(str(p.relative_to(folder)), hashlib.sha256(p.read_bytes()).hexdigest(), p.read_bytes)
        for p in (paths[i] for i in picked)
    ]


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=600)
    parser.add_argument("--backbone", default="lite")
    parser.add_argument("--weights-dir", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    images = stored_images(arguments.folder, arguments.count)
    preset = preset_named(arguments.backbone)
    began = perf_counter()
    backbone = load_backbone(preset, find_weights(preset, arguments.weights_dir))
    print(f"{backbone.preset.name} ({backbone.engine.tag}) loaded in {perf_counter() - began:.1f} s")
    columns = ("run", "images/s", "tiles/s", "seconds", "CPU ms/image", "load", "peak MiB")
    print("{:8} {:>9} {:>8} {:>8} {:>13} {:>6} {:>9}".format(*columns))
    for repeat in range(arguments.repeats):
        with tempfile.TemporaryDirectory() as folder:
            for label in (f"cold {repeat + 1}", "cached"):
                began, worked = perf_counter(), process_time()
                features = extract(images, backbone, FeatureCache(Path(folder)), lambda _: None)
                took, worked = perf_counter() - began, process_time() - worked
                tiles = features.n_patches / preset.grid**2
                print(
                    f"{label:8} {len(images) / took:9.0f} {tiles / took:8.0f} {took:8.2f} "
                    f"{1000 * worked / len(images):13.1f} {os.getloadavg()[0]:6.1f} {peak_mib():9.0f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
