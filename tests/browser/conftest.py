"""Debian's chromium before a real server with real images and real jobs. Nothing is downloaded."""

import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import elpv_dataset
import httpx2
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, expect, sync_playwright

from tests.integration.served import serve
from tests.networks import Lend

KEY = "k" * 40
PEOPLE = {"olga": "admin", "anna": "reviewer", "ben": "reviewer", "vera": "viewer"}
DESKTOP: ViewportSize = {"width": 1280, "height": 860}
PHONE: ViewportSize = {"width": 390, "height": 844}
PATIENCE_MS = 60_000
JOB_MS = 400_000
"""A job takes seconds, but minutes on a machine with ten others at work."""
expect.set_options(timeout=PATIENCE_MS)


def some_cells(number: int) -> list[Path]:
    """Solar cells from all over the set."""
    cells = sorted((Path(elpv_dataset.__file__).parent / "data" / "images").glob("*.png"))
    return cells[:: len(cells) // number][:number]


def zip_of(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


@dataclass(frozen=True, slots=True)
class Site:
    """The server, a purified dataset in it, and everybody's keys."""

    url: str
    data_dir: Path
    dataset: str
    keys: dict[str, str]

    def client(self) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, headers={"X-API-Key": KEY}, timeout=60)

    def forget_decisions(self) -> None:
        with self.client() as client:
            everything = {"filter": {}, "decision": "clear"}
            client.post(f"/datasets/{self.dataset}/reviews", json=everything).raise_for_status()

    def said(self) -> dict[str, tuple[str | None, str | None]]:
        """(what a person said, who) of every image, by rank as the server tells it."""
        with self.client() as client:
            items = (
                client.get(f"/datasets/{self.dataset}/purified?limit=1000").raise_for_status().json()["items"]
            )
        return {item["name"]: (item["review"], item["reviewed_by"]) for item in items}


@pytest.fixture(scope="session")
def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.skip("no chromium on this machine: apt-get install chromium")


# Not for the session: as long as Playwright is open, no other test in this process can run an event loop.
@pytest.fixture(scope="package")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="package")
def site(chromium: str, lend_network: Lend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    lend_network(folder / "data")
    with serve(folder / "data", SIFTLINE_API_KEY=KEY) as served:
        with httpx2.Client(base_url=served.url, headers={"X-API-Key": KEY}, timeout=120) as client:
            keys = {name: _make_key(client, name, role) for name, role in PEOPLE.items()}
            cells = zip_of(folder / "cells.zip", {path.name: path.read_bytes() for path in some_cells(48)})
            with cells.open("rb") as file:
                made = client.post("/datasets", data={"name": "Cells"}, files={"files": ("cells.zip", file)})
            dataset = made.raise_for_status().json()["dataset"]["id"]
            for _ in range(JOB_MS // 30_000):
                if client.get(f"/datasets/{dataset}/purified?wait=30&limit=1").status_code == 200:
                    break
            else:
                raise AssertionError(f"not purified:\n{served.log.read_text()}")
        yield Site(served.url, folder / "data", dataset, keys)


def _make_key(client: httpx2.Client, name: str, role: str) -> str:
    answer = client.post("/keys", json={"name": name, "role": role}).raise_for_status()
    key: str = answer.json()["key"]
    return key


def sign_in(context: BrowserContext, site: Site, key: str) -> None:
    context.request.post("/signin", form={"key": key}, headers={"Origin": site.url}, max_redirects=0)


class Opener:
    """Browsers, each somebody's own, signed in."""

    def __init__(self, browser: Browser, site: Site) -> None:
        self._browser, self._site = browser, site
        self._contexts: list[BrowserContext] = []
        self._faults: list[str] = []

    def __call__(self, path: str, who: str | None = None, *, phone: bool = False, dark: bool = False) -> Page:
        context = self._browser.new_context(
            base_url=self._site.url,
            viewport=PHONE if phone else DESKTOP,
            has_touch=phone,
            color_scheme="dark" if dark else "light",
        )
        context.set_default_timeout(PATIENCE_MS)
        self._contexts.append(context)
        sign_in(context, self._site, KEY if who is None else self._site.keys[who])
        page = context.new_page()
        page.on("pageerror", lambda error: self._faults.append(str(error)))
        page.goto(path)
        return page

    def close(self) -> list[str]:
        """What scripts stumbled over."""
        for context in self._contexts:
            context.close()
        return self._faults


@pytest.fixture
def opened(browser: Browser, site: Site) -> Iterator[Opener]:
    """Open a page as somebody; a script that stumbles fails the test."""
    opener = Opener(browser, site)
    yield opener
    assert opener.close() == []


@pytest.fixture
def gallery(site: Site) -> str:
    """The path of a dataset that nobody has decided about, showing all its images one by one."""
    site.forget_decisions()
    return f"/d/{site.dataset}?show=&folded=false"
