"""What a walk over a source's folders tells of."""

import shutil
from pathlib import Path

import pytest

from siftline.services.archives import FileRejected
from siftline.services.sources import files
from siftline.settings import Settings


def test_a_folder_that_cannot_be_looked_into_is_not_passed_over(tmp_path: Path) -> None:
    for name in ("1.png", "closed/2.png", "open/3.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = files(tmp_path, Settings(source_roots=(tmp_path,)))
    assert next(found).name == "1.png"
    shutil.rmtree(tmp_path / "closed")
    closed, other = sorted(found, key=lambda file: file.name)
    assert (closed.name, other.name) == ("closed", "open/3.png")
    with pytest.raises(FileRejected):
        next(closed.chunks())
