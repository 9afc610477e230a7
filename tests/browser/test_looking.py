"""Uploading, the cut, the large view, a long list, the keyboard alone, axe-core on every page."""

import re
from pathlib import Path
from typing import Any

import pytest
from axe_core_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from benchmarks.review_page import fill
from siftline.services.words import percent
from siftline.settings import Settings
from siftline.store.session import make_engine, session_factory, transaction
from tests.browser.conftest import JOB_MS, Opener, Site, some_cells, zip_of
from tests.browser.looking import card, cards, expect_tag, focus_first, names

HOSTILE = '<img src=x onerror="document.title=`stolen`">.png'
LONG = 5000


@pytest.mark.timeout(2 * JOB_MS / 1000)
def test_a_zip_is_uploaded_watched_and_reviewed_and_a_hostile_name_stays_a_name(
    opened: Opener, site: Site, tmp_path: Path
) -> None:
    files = {path.name: path.read_bytes() for path in some_cells(22)}
    files[HOSTILE] = files.pop(next(iter(files)))
    files["broken.png"] = b"\x89PNG\r\n\x1a\n and then nothing"
    archive = zip_of(tmp_path / "week 47.zip", files)
    page = opened("/")
    page.locator("input[type=file]").set_input_files(archive)
    expect(page.get_by_label("Name")).to_have_value("week 47")
    page.get_by_role("button", name="Upload and purify").click()
    expect(page.get_by_role("heading", name="week 47")).to_be_visible()
    expect(page.get_by_text("22 images, 1 file refused")).to_be_visible()
    expect(page.locator("#grid")).to_be_attached(timeout=JOB_MS)
    page.get_by_role("radio", name="All").check(force=True)
    expect(page.locator("#found")).to_contain_text("22 images")
    page.get_by_placeholder("Name").fill("onerror")
    expect(page.locator("#found")).to_contain_text("1 image")
    expect(card(page, HOSTILE.replace('"', '\\"')).locator(".name")).to_have_text(HOSTILE)
    cards(page).first.dblclick()
    expect(page.locator("#viewer-name")).to_have_text(HOSTILE)
    page.keyboard.press("Escape")
    page.locator("#refused").click()
    expect(page.get_by_text("broken.png: ")).to_be_visible()
    assert "stolen" not in page.title()


@pytest.mark.timeout(2 * JOB_MS / 1000)
def test_the_cut_tells_what_it_would_move_by_mouse_and_by_key_and_makes_a_version(
    opened: Opener, gallery: str, site: Site
) -> None:
    page = opened(gallery, "anna")
    names(page)
    readout, handle = page.locator("#cut-readout"), page.get_by_role("slider", name="Cut")
    expect(readout).to_contain_text("the present cut")
    suspects = int(re.match(r"\d+", readout.inner_text())[0])  # type: ignore[index]  # it is there
    handle.focus()
    page.keyboard.press("ArrowLeft")
    expect(readout).to_contain_text("1 image moves to suspect")
    expect(page.locator(".card.to-suspect")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(readout).to_contain_text("the present cut")
    box = page.locator("#histogram").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + 40, steps=3)
    page.mouse.up()
    expect(readout).to_contain_text("move to suspect")
    above = int(re.match(r"\d+", readout.inner_text())[0])  # type: ignore[index]  # it is there
    assert above > suspects
    handle.focus()
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowLeft")
    page.get_by_role("button", name="Apply this cut").click()
    expect(page.locator("#n-suspect")).to_have_text(str(suspects + 1), timeout=JOB_MS)
    page.get_by_role("link", name="What changed").click()
    expect(page.get_by_role("heading", name="Newly suspect 1")).to_be_visible()


def test_the_large_view_tells_why_and_who(opened: Opener, gallery: str) -> None:
    page = opened(gallery, "anna")
    first = focus_first(page)
    page.keyboard.press("Enter")
    view = page.get_by_role("dialog")
    expect(view.get_by_role("heading", name=first)).to_be_visible()
    expect(view.get_by_role("heading", name="Why it stands here")).to_be_visible()
    expect(view.get_by_role("img", name="away")).not_to_have_count(0)
    page.keyboard.press("+")
    expect(page.locator("#stage-inner")).to_have_css("transform", re.compile(r"matrix\(1\.5"))
    page.keyboard.press("x")
    expect(view.get_by_role("heading", name=names(page)[1])).to_be_visible()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#viewer-verdict")).to_have_text("Rejected by anna")
    expect(page.locator("#viewer-history")).to_contain_text("Rejected by anna")
    page.keyboard.press("Escape")
    expect_tag(page, first, "Rejected")


def test_everything_works_by_keyboard_alone(opened: Opener, gallery: str) -> None:
    page = opened(gallery, "anna")
    shown = names(page)
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('card')"):
            break
    expect(cards(page).first).to_be_focused()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("k")
    expect_tag(page, shown[1], "Kept")
    page.keyboard.press("Space")
    page.keyboard.press("Shift+ArrowRight")
    expect(page.locator("#actions-for")).to_have_text("2 selected")
    page.keyboard.press("Escape")
    page.keyboard.press("h")
    expect(page.locator(".card img.heat").first).to_be_visible()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.keyboard.type(shown[0])
    expect(page.locator("#found")).to_have_text("1 image")


def test_of_a_long_list_only_what_is_in_sight_exists(opened: Opener, site: Site) -> None:
    engine = make_engine(Settings(data_dir=site.data_dir).sqlalchemy_url)
    with transaction(session_factory(engine)) as session:
        dataset = fill(session, LONG)
    engine.dispose()
    page = opened(f"/d/{dataset}?show=&folded=false")
    assert names(page)[0] == "camera-2/shift-0/frame-000000.png"
    expect(page.locator("#found")).to_contain_text(re.compile("5.000 images"))
    cards(page).first.focus()
    page.keyboard.press("End")
    expect(page.get_by_title(f"frame-{LONG - 1:06d}.png")).to_be_focused()
    assert cards(page).count() < 150


SHARES = [0, 0.0003, 0.002, 0.0995, 0.17, 0.9949, 0.996, 0.9999, 1]


def test_no_page_is_wider_than_the_narrowest_screen_and_shares_are_told_as_in_reports(
    opened: Opener, gallery: str
) -> None:
    page = opened("/", phone=True)
    page.set_viewport_size({"width": 320, "height": 600})
    for path in ("/", gallery, "/m", "/j", "/docs"):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") == 320, path
    told = page.evaluate("shares => import('/static/js/dom.js').then(js => shares.map(js.percent))", SHARES)
    assert told == [percent(share) for share in SHARES]


PAGES = ("/", "{gallery}", "/m", "/j", "/signin")


@pytest.mark.parametrize(("phone", "dark"), [(False, False), (True, True)], ids=["wide-light", "phone-dark"])
def test_axe_finds_nothing_serious(opened: Opener, gallery: str, phone: bool, dark: bool) -> None:
    found = {}
    page = opened("/", phone=phone, dark=dark)
    for path in PAGES:
        page.goto(path.format(gallery=gallery))
        if "gallery" in path:
            names(page)
        found[path] = _serious(page)
    page.goto(gallery)
    focus_first(page)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Why it stands here")).to_be_visible()
    found["large view"] = _serious(page)
    assert {path: violations for path, violations in found.items() if violations} == {}


def _serious(page: Page) -> list[str]:
    answer: dict[str, list[dict[str, Any]]] = Axe().run(page)
    assert answer["passes"], "axe looked at nothing"
    return [
        f"{one['id']}: {node['html'][:160]}"
        for one in answer["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"][:3]
    ]
