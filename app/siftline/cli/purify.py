"""`siftline purify`: the whole main job in one command, without a server.

The same intake, job row, child process and pipeline as behind the API, on a data folder of its own.
"""

from pathlib import Path
from typing import Annotated

import typer

from siftline.cli.output import print_purified, write_json
from siftline.cli.servers import require_worker_packages
from siftline.schemas import DatasetOptions


def purify(
    path: Annotated[Path, typer.Argument(exists=True, help="A folder, an archive, or one image.")],
    *,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the whole ranking to this file; - prints it.")
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Keep database, features and heat maps here, not only while it runs."),
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="Backbone preset.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of every random choice.")] = 0,
    subsets: Annotated[int, typer.Option(min=2, max=20, help="Subsets per partition.")] = 5,
    partitions: Annotated[int, typer.Option(min=1, max=32, help="Random partitions.")] = 4,
    cost_ratio: Annotated[
        float, typer.Option(min=0.01, max=100, help="Cost of keeping a bad image over losing a good one.")
    ] = 4.0,
    contamination_hint: Annotated[
        float | None, typer.Option(min=0, max=1, help="A guess at the share of bad images: a hint only.")
    ] = None,
    top: Annotated[int, typer.Option(min=0, help="How many images to show.")] = 10,
) -> None:
    """Rank and split a folder or an archive of images, here and now."""
    from siftline.cli.inprocess import purified_here

    require_worker_packages()
    options = DatasetOptions(
        backbone=backbone,
        seed=seed,
        subsets=subsets,
        partitions=partitions,
        cost_ratio=cost_ratio,
        contamination_hint=contamination_hint,
    )
    split = purified_here(path.resolve(), options, data_dir)
    if json_file is not None:
        write_json(json_file, split)
    if json_file is None or str(json_file) != "-":
        print_purified(split, top)
