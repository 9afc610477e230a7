"""What is exported is what was decided, readable by the tools people use, and safe to unpack."""

import csv
import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pandas as pd
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from pyarrow import parquet
from pycocotools.coco import COCO
from sqlalchemy.orm import Session, sessionmaker

from siftline.services import exports
from siftline.settings import Settings
from siftline.store.blobs import image_key
from siftline.store.blobs_local import LocalBlobs
from tests.integration.api.conftest import encoded, is_problem, made, png, spool_is_empty
from tests.integration.api.reviewing import people, rank
from tests.integration.api.test_answers import pages

NAMES = [
    "line/a.png",
    "line/A.PNG",
    "../../etc/passwd",
    "C:\\windows\\con.png",
    "=cmd|' C calc'!A1.png",
    "-001.png",
    "<img src=x onerror=alert(1)>.png",
    "größe «ü» 😀.png",
    "deep/" * 30 + "x" * 300 + ".png",
    "x.png/y.png",
    "x.png",
    "rtl\u202egnp.exe",
]
SUSPECTS = 4
SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def images(api: TestClient) -> dict[str, bytes]:
    return {name: png(i) for i, name in enumerate(NAMES)}


@pytest.fixture
def dataset(api: TestClient, images: dict[str, bytes], sessions: sessionmaker[Session]) -> dict[str, Any]:
    """Images with names from hell, ranked as they came; a person kept the first and rejected the last."""
    people(api)
    dataset: dict[str, Any] = made(
        api, *images.items(), name="line 4/../ü", data={"options": '{"purify": false}'}
    )["dataset"]
    ids = [image["id"] for image in pages(api, f"/datasets/{dataset['id']}/images")]
    rank(sessions, UUID(dataset["id"]), [UUID(i) for i in ids], suspects=SUSPECTS)
    decisions = [{"image_id": ids[0], "decision": "keep"}, {"image_id": ids[-1], "decision": "reject"}]
    api.post(f"/datasets/{dataset['id']}/reviews", json={"decisions": decisions}, headers={"X-Who": "ada"})
    return dataset


def export(api: TestClient, dataset: dict[str, Any], fmt: str, **params: Any) -> Any:
    answer = api.get(f"/datasets/{dataset['id']}/export", params={"format": fmt, **params})
    assert answer.status_code == 200, answer.text
    assert int(answer.headers["content-length"]) == len(answer.content)
    return answer


def unzipped(answer: Any) -> zipfile.ZipFile:
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert archive.testzip() is None
    return archive


def purified(api: TestClient, dataset: dict[str, Any]) -> list[dict[str, Any]]:
    return list(pages(api, f"/datasets/{dataset['id']}/purified"))


def effective(item: dict[str, Any]) -> str:
    return str({"keep": "clean", "reject": "suspect", None: item["verdict"]}[item["review"]])


def frames(api: TestClient, dataset: dict[str, Any]) -> Iterator[tuple[str, pd.DataFrame]]:
    yield "csv", pd.read_csv(io.BytesIO(export(api, dataset, "csv").content))
    yield "parquet", pd.read_parquet(io.BytesIO(export(api, dataset, "parquet").content))
    lines = pd.read_json(io.BytesIO(export(api, dataset, "jsonl").content), lines=True, precise_float=True)
    signals = pd.json_normalize(lines.pop("signals").tolist()).add_prefix("signal_")
    origin = pd.json_normalize(lines.pop("lineage").tolist())[["dataset_id", "version"]]
    yield "jsonl", pd.concat([lines, signals, origin], axis=1)


def test_tables_come_back_in_pandas_as_the_list_shows_them(api: TestClient, dataset: dict[str, Any]) -> None:
    items = purified(api, dataset)
    for fmt, frame in frames(api, dataset):
        assert frame["image_id"].tolist() == [item["image_id"] for item in items], fmt
        assert frame["verdict"].tolist() == [effective(item) for item in items]
        assert frame["machine_verdict"].tolist() == [item["verdict"] for item in items]
        for column in ("score", "p_anomalous", "rank", "confidence", "sha256", "needs_review"):
            assert frame[column].tolist() == [item[column] for item in items], (fmt, column)
        assert frame["interval_hi"].tolist() == [item["interval"][1] for item in items]
        assert frame["signal_funad"].tolist() == [item["signals"]["funad"] for item in items]
        decided = frame[frame["review"].notna()]
        assert decided["review"].tolist() == ["keep", "reject"]
        assert set(decided["reviewed_by"]) == {"ada"}
        when = pd.to_datetime(decided["reviewed_at"], utc=True, format="ISO8601" if fmt == "csv" else None)
        assert when.tolist() == [pd.Timestamp(i["reviewed_at"]) for i in (items[0], items[-1])]
        assert set(frame["dataset_id"]) == {dataset["id"]}
        assert set(frame["version"]) == {1}


def test_the_lineage_travels_with_every_format(api: TestClient, dataset: dict[str, Any]) -> None:
    line = json.loads(export(api, dataset, "jsonl").content.splitlines()[0])
    metadata = parquet.read_metadata(io.BytesIO(export(api, dataset, "parquet").content)).metadata
    coco = json.loads(export(api, dataset, "coco").content)
    told = line["lineage"]
    assert json.loads(metadata[b"siftline"]) == told == coco["info"]["lineage"]
    assert (told["version"], told["review_revision"], told["backbone"]["name"]) == (1, 1, "lite")
    assert told["options"]["seed"] == 3
    row = next(csv.DictReader(io.StringIO(export(api, dataset, "csv").text)))
    assert json.loads(row["options"]) == told["options"]


def test_a_spreadsheet_runs_nothing_of_a_name_and_plain_names_stay_as_they_are(
    api: TestClient, dataset: dict[str, Any]
) -> None:
    names = [row["name"] for row in csv.DictReader(io.StringIO(export(api, dataset, "csv").text))]
    assert "'" + NAMES[4] in names
    assert "-001.png" in names


@SQLITE
def test_only_the_wanted_verdict_is_exported(api: TestClient, dataset: dict[str, Any]) -> None:
    for fmt in ("csv", "jsonl", "coco"):
        text = export(api, dataset, fmt, verdict="suspect").text
        assert text.count("a.png") == 0, fmt  # kept by a person
    frame = pd.read_csv(io.StringIO(export(api, dataset, "csv", verdict="suspect").text))
    assert frame["rank"].tolist() == [2, 3, 4, 12]
    whole = pd.read_csv(io.StringIO(export(api, dataset, "csv").text)).set_index("rank")
    assert frame["file"].tolist() == whole.loc[frame["rank"], "file"].tolist()


def test_the_zip_has_every_clean_image_once_bit_for_bit(
    api: TestClient, dataset: dict[str, Any], images: dict[str, bytes], tmp_path: Path
) -> None:
    answer = export(api, dataset, "zip")
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''line%204_.._%C3%BC-v1.zip"
    archive = unzipped(answer)
    rows = [json.loads(line) for line in archive.read("manifest.jsonl").splitlines()]
    table = list(csv.DictReader(io.TextIOWrapper(archive.open("manifest.csv"), "utf-8")))
    assert [row["file"] for row in table] == [row["file"] for row in rows]
    assert len(rows) == len(NAMES) - SUSPECTS
    assert {row["verdict"] for row in rows} == {"clean"}
    assert len(archive.namelist()) == len(set(archive.namelist())) == len(rows) + 2
    for row in rows:
        assert hashlib.sha256(archive.read(row["file"])).hexdigest() == row["sha256"]
    assert archive.read("images/line/a.png") == images["line/a.png"]
    archive.extractall(tmp_path / "out")
    assert len([p for p in (tmp_path / "out").rglob("*") if p.is_file()]) == len(rows) + 2


@SQLITE
def test_names_in_archives_are_safe_anywhere(api: TestClient, dataset: dict[str, Any]) -> None:
    names = [
        n for v in ("clean", "suspect") for n in unzipped(export(api, dataset, "zip", verdict=v)).namelist()
    ]
    files = [name for name in names if name.startswith("images/")]
    assert len({name.casefold() for name in files}) == len(files) == len(NAMES)
    for name in files:
        parts = name.split("/")
        assert not {"", ".", ".."} & set(parts)
        assert not set(name) & set('\\:*?"<>|\u202e')
        assert all(len(part.encode()) <= 255 for part in parts)
        assert not any(part.casefold().startswith("con.") for part in parts)
        assert parts[-1].casefold().endswith(".png")


@SQLITE
def test_mvtec_has_the_clean_to_train_on_and_the_suspect_to_test(
    api: TestClient, dataset: dict[str, Any]
) -> None:
    archive = unzipped(export(api, dataset, "mvtec"))
    folders = Counter(name.rpartition("/")[0] for name in archive.namelist())
    root = "line 4_.._u"
    assert folders == {root: 2, f"{root}/train/good": 8, f"{root}/test/suspect": 4}


def read_with(tool: str, folder: Path) -> Any:
    """What the program beside this file prints, run where that heavy tool is installed."""
    variable = f"SIFTLINE_TEST_{tool.upper()}_PYTHON"
    python = os.environ.get(variable, sys.executable)
    if subprocess.run([python, "-c", f"import {tool}"], capture_output=True, check=False).returncode != 0:
        pytest.skip(f"{tool} is not installed; {variable} names a Python that has it")
    program = Path(__file__).with_name(f"read_with_{tool}.py")
    told = subprocess.run([python, program, folder], check=True, capture_output=True, timeout=120)
    return json.loads(told.stdout)


@SQLITE
def test_anomalib_reads_the_mvtec_archive_as_it_is(
    api: TestClient, dataset: dict[str, Any], tmp_path: Path
) -> None:
    unzipped(export(api, dataset, "mvtec")).extractall(tmp_path / "out")
    (root,) = (tmp_path / "out").iterdir()
    counts = read_with("anomalib", root)
    # It sets a part of the normal images aside for the test by itself.
    assert (counts["train"] + counts["normal"], counts["suspect"]) == (8, 4)


@SQLITE
def test_fiftyone_reads_its_archive_as_it_is(
    api: TestClient, dataset: dict[str, Any], tmp_path: Path
) -> None:
    unzipped(export(api, dataset, "fiftyone")).extractall(tmp_path)
    verdicts = {item["image_id"]: effective(item) for item in purified(api, dataset)}
    assert read_with("fiftyone", tmp_path) == verdicts


def test_fiftyone_finds_a_label_for_every_file(api: TestClient, dataset: dict[str, Any]) -> None:
    archive = unzipped(export(api, dataset, "fiftyone"))
    labels = json.loads(archive.read("labels.json"))
    files = [Path(name).stem for name in archive.namelist() if name.startswith("data/")]
    assert sorted(labels["labels"]) == sorted(files)
    verdicts = {image_id: label["label"] for image_id, label in labels["labels"].items()}
    assert verdicts == {item["image_id"]: effective(item) for item in purified(api, dataset)}
    assert set(verdicts.values()) == set(labels["classes"])


@SQLITE
def test_coco_comes_back_with_boxes_where_it_is_hot(
    api: TestClient, dataset: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "coco.json"
    path.write_bytes(export(api, dataset, "coco").content)
    coco = COCO(str(path))
    capsys.readouterr()  # it prints
    assert len(coco.getImgIds()) == len(NAMES)
    boxed = {a["image_id"] for a in coco.loadAnns(coco.getAnnIds())}
    assert boxed == {item["rank"] for item in purified(api, dataset) if effective(item) == "suspect"}
    # 24 × 16 pixels under 4 × 3 cells: hot are the corner above right, the left edge, the corner below right
    boxes = [a["bbox"] for a in coco.loadAnns(coco.getAnnIds(imgIds=[2]))]
    assert boxes == [[18.0, 10.67, 6.0, 5.33], [18.0, 0.0, 6.0, 5.33], [0.0, 5.33, 6.0, 5.33]]
    assert coco.loadCats(1)[0]["name"] == "anomaly"


def test_an_export_of_no_images_has_its_columns(api: TestClient, dataset: dict[str, Any]) -> None:
    ids = [item["image_id"] for item in purified(api, dataset)]
    body = {"decisions": [{"image_id": i, "decision": "reject"} for i in ids]}
    api.post(f"/datasets/{dataset['id']}/reviews", json=body)
    for fmt, read in (("csv", pd.read_csv), ("parquet", pd.read_parquet)):
        frame = read(io.BytesIO(export(api, dataset, fmt, verdict="clean").content))
        assert (len(frame), "signal_funad" in frame, "verdict" in frame) == (0, True, True)
    assert unzipped(export(api, dataset, "zip")).namelist() == ["manifest.jsonl", "manifest.csv"]


@SQLITE
@pytest.mark.parametrize("fmt", ["zip", "mvtec", "fiftyone"])
def test_bytes_that_are_missing_are_a_problem_and_not_a_shorter_archive(
    api: TestClient, dataset: dict[str, Any], settings: Settings, fmt: str
) -> None:
    lost = purified(api, dataset)[6]
    (settings.blobs_dir / "datasets" / dataset["id"] / lost["sha256"]).unlink()
    answer = api.get(f"/datasets/{dataset['id']}/export", params={"format": fmt})
    assert is_problem(answer, 503, "unavailable")
    assert answer.json()["errors"] == [{"image_id": lost["image_id"], "name": lost["name"]}]
    assert export(api, dataset, "csv")


@SQLITE
def test_bytes_that_vanish_while_they_are_sent_break_the_stream_aloud(
    api: TestClient, dataset: dict[str, Any], settings: Settings, sessions: sessionmaker[Session]
) -> None:
    blobs = LocalBlobs(settings.blobs_dir)
    sent = exports.export(sessions, blobs, settings.spool_dir, UUID(dataset["id"]), "zip")
    lost = purified(api, dataset)[6]
    blobs.delete(image_key(UUID(dataset["id"]), lost["sha256"]))
    with pytest.raises(FileNotFoundError):
        list(sent.chunks)
    assert spool_is_empty(settings)


def test_what_cannot_be_exported_is_a_problem(api: TestClient, dataset: dict[str, Any]) -> None:
    path = f"/datasets/{dataset['id']}/export"
    assert is_problem(api.get(path), 422, "validation-error")
    assert is_problem(api.get(path, params={"format": "xls"}), 422, "validation-error")
    assert is_problem(api.get(path, params={"format": "csv", "version": 2}), 404, "not-found")
    empty = made(
        api, ("a.png", encoded(Image.new("L", (9, 9)), "PNG")), data={"options": '{"purify": false}'}
    )
    answer = api.get(f"/datasets/{empty['dataset']['id']}/export", params={"format": "csv"})
    assert is_problem(answer, 409, "purification-not-ready")
