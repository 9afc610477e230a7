"""Pictures of a version and its report: for people, and harmless whatever a file is called."""

import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from html.parser import HTMLParser
from typing import BinaryIO
from uuid import UUID

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from sqlalchemy.orm import Session, sessionmaker

from siftline.services import plots
from siftline.settings import Settings
from siftline.store.blobs_local import LocalBlobs
from tests.integration.api.conftest import is_head_of, is_problem, made, png
from tests.integration.api.reviewing import people, rank
from tests.integration.api.test_answers import pages

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
HOSTILE = "<script>alert(1)</script><img src=http:evil.example onerror=x()>.png"
NAMES = [HOSTILE, "$\\frac{$.png", "{{ 7*7 }}.png", *(f"{i}.png" for i in range(9))]


@pytest.fixture
def path(api: TestClient, sessions: sessionmaker[Session]) -> str:
    people(api)
    files = [(name, png(i, (40, 30))) for i, name in enumerate(NAMES)]
    name = "Linie 4 <b onclick=x()>{{ 6*6 }}</b>"
    dataset = made(api, *files, name=name, data={"options": '{"purify": false}'})["dataset"]
    path = f"/datasets/{dataset['id']}"
    ids = [UUID(image["id"]) for image in pages(api, f"{path}/images")]
    rank(sessions, UUID(dataset["id"]), ids, suspects=3)
    decisions = [
        {"image_id": str(ids[0]), "decision": "keep"},
        {"image_id": str(ids[5]), "decision": "reject"},
    ]
    api.post(f"{path}/reviews", json={"decisions": decisions}, headers={"X-Who": "<i>eve</i>"})
    return path


@SQLITE
def test_every_plot_is_a_picture_that_a_browser_keeps_for_its_version(api: TestClient, path: str) -> None:
    for name in ("histogram", "agreement", "calibration", "contact-sheet"):
        answer = api.get(f"{path}/purified/plots/{name}.png", params={"version": 1})
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
        assert "immutable" in answer.headers["cache-control"]
        picture = np.asarray(Image.open(io.BytesIO(answer.content)).convert("L"))
        assert picture.std() > 5, name  # something is drawn
        seen = {"If-None-Match": answer.headers["etag"]}
        assert api.get(f"{path}/purified/plots/{name}.png", headers=seen).status_code == 304
    newest = api.get(f"{path}/purified/plots/histogram.png")
    assert newest.headers["cache-control"] == "no-cache"
    assert is_head_of(api.head(f"{path}/purified/plots/histogram.png"), newest)
    assert is_head_of(api.head(f"{path}/report"), api.get(f"{path}/report"))


@SQLITE
def test_a_head_tells_how_long_an_export_will_be_and_reads_no_image(
    api: TestClient, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, open_blob = [], LocalBlobs.open

    def noted(blobs: LocalBlobs, key: str) -> BinaryIO:
        opened.append(key)
        return open_blob(blobs, key)

    for fmt in ("csv", "mvtec"):
        export = f"{path}/export?format={fmt}"
        whole = api.get(export)
        with monkeypatch.context() as storage:
            storage.setattr(LocalBlobs, "open", noted)
            assert is_head_of(api.head(export), whole)
    assert opened == []


@SQLITE
def test_plots_of_what_is_not_there_are_problems(
    api: TestClient, path: str, sessions: sessionmaker[Session], settings: Settings
) -> None:
    assert is_problem(api.get(f"{path}/purified/plots/pie.png"), 422, "validation-error")
    assert is_problem(api.get(f"{path}/purified/plots/histogram.png?version=2"), 404, "not-found")
    rank(sessions, UUID(path.rpartition("/")[2]), [], suspects=0)
    for name in ("histogram.png", "contact-sheet.png"):
        assert is_problem(api.get(f"{path}/purified/plots/{name}"), 422, "unprocessable")
    for blob in settings.blobs_dir.rglob("*"):
        if blob.is_file():
            blob.unlink()
    lost = api.get(f"{path}/purified/plots/contact-sheet.png?version=1")
    assert is_problem(lost, 503, "unavailable")


def data(scores: list[float], signals: int) -> plots.Data:
    values = np.array(scores)
    p = np.linspace(1, 0, len(values))
    return plots.Data(
        version=1,
        cut=0.5,
        scores=values,
        p_anomalous=p,
        interval=np.stack([p / 2, p], axis=1),
        suspect=values > 0.5,
        signals={f"s{i}": values for i in range(signals)},
    )


@pytest.mark.parametrize("name", plots.PLOTS)
@pytest.mark.parametrize("scores", [[0.7], [0.2] * 50, [0.9, 0.1]])
def test_odd_versions_are_drawn_too(name: str, scores: list[float]) -> None:
    assert plots.draw(name, data(scores, signals=1)).startswith(b"\x89PNG")


def test_bars_begin_at_the_cut_and_hold_every_score() -> None:
    rng = np.random.default_rng(0)
    for n in range(20, 400):
        version = data([0.1, *rng.lognormal(0, 0.5, n)], signals=1)
        edges = plots._edges(version)
        assert np.isclose(edges, version.cut).any()
        for cut in (version.cut, 0.0):
            assert np.histogram(version.scores, plots._edges(replace(version, cut=cut)))[0].sum() == n + 1


def test_plots_drawn_at_once_are_the_plots_drawn_one_by_one() -> None:
    version = data(np.linspace(0, 1, 100).tolist(), signals=3)
    names = ["histogram", "calibration"] * 2
    alone = [plots.draw(name, version) for name in names]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda name: plots.draw(name, version), names)) == alone


class Parts(HTMLParser):
    """The elements and the texts of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())


def test_the_report_is_whole_in_itself_and_names_are_only_text(api: TestClient, path: str) -> None:
    answer = api.get(f"{path}/report")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    page = Parts(answer.text)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "iframe", "object", "embed", "form", "a", "b onclick"}
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "srcset", "action", "background"):
            assert (attributes.get(name) or "data:").startswith("data:image/") or name not in attributes
    style = answer.text.partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    assert "http" not in answer.text.replace("http:evil.example", "").replace("http-equiv", "")
    assert HOSTILE in page.texts
    assert "{{ 7*7 }}.png" in page.texts
    assert "Linie 4 <b onclick=x()>{{ 6*6 }}</b>" in page.texts


def test_the_report_tells_what_was_found_and_who_decided_what(api: TestClient, path: str) -> None:
    text = " ".join(Parts(api.get(f"{path}/report").text).texts)
    text = " ".join(text.split())
    assert "12 images ranked" in text
    assert "3 suspect to the machine" in text
    assert "9 count as clean now" in text
    assert (
        "About 10 % of the images look anomalous (80 % interval 5.0 % to 20 %). The evidence is strong."
        in text
    )
    assert "kept by <i>eve</i>" in text
    assert "<i>eve</i> 1 1" in text
    assert "cost ratio 4.0" in text


@SQLITE
def test_a_lost_image_leaves_a_gap_in_the_report_and_no_more(
    api: TestClient, path: str, settings: Settings
) -> None:
    for blob in settings.blobs_dir.rglob("*"):
        if blob.is_file():
            blob.unlink()
    answer = api.get(f"{path}/report")
    assert answer.status_code == 200
    assert answer.text.count("the image is lost") == 12
    assert is_problem(api.get(f"{path}/report?version=9"), 404, "not-found")
