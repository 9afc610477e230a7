"""Training by the form, scoring by dropping, and jobs that are watched and cancelled."""

import base64
import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import JOB_MS, Opener, Site, some_cells


def drop(page: Page, name: str, content: bytes) -> None:
    """Drop a file on the page's drop zone, as a file manager would."""
    transfer = page.evaluate_handle(
        """([name, encoded]) => {
            const bytes = Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], name, { type: "image/png" }));
            return transfer;
        }""",
        [name, base64.b64encode(content).decode()],
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})


@pytest.mark.timeout(2 * JOB_MS / 1000)
def test_a_detector_is_trained_by_the_form_and_judges_a_dropped_image(opened: Opener, site: Site) -> None:
    page = opened(f"/m?dataset_id={site.dataset}")
    page.get_by_label("Name").fill("Cells, quick")
    page.get_by_label("Stop training after").fill("0.05")
    page.get_by_role("button", name="Train").click()
    expect(page.get_by_role("heading", name="Cells, quick")).to_be_visible()
    expect(page.locator("#state")).to_have_text("ready", timeout=JOB_MS)
    calibration = page.get_by_role("region", name="Calibration", exact=True)
    expect(calibration).to_contain_text("Good images it rests on")
    expect(page.get_by_role("link", name="model.onnx")).to_be_visible()
    drop(page, "dropped.png", some_cells(48)[0].read_bytes())
    said = page.locator(".scored", has_text="dropped.png")
    expect(said.locator(".badge")).to_have_text(re.compile("ok|review|defect"))
    expect(said.get_by_alt_text("Heat map of dropped.png")).to_be_visible()
    drop(page, "notes.txt", b"not an image at all")
    expect(page.locator(".scored", has_text="notes.txt")).to_contain_text("refused")
    page.goto("/m")
    expect(page.get_by_role("link", name="Cells, quick")).to_be_visible()


def test_a_job_is_cancelled_from_the_list_and_its_row_says_so(opened: Opener, site: Site) -> None:
    long = {"seed": 7, "submodels": "student"}  # minutes: it is not over before the page is there
    with site.client() as client:
        job = client.post(f"/datasets/{site.dataset}/purifications", json=long).raise_for_status().json()
    page = opened("/j")
    row = page.locator(f"#job-{job['id']}")
    page.route("**/cancel", lambda route: route.abort(), times=1)
    for _ in ("lost on its way", "heard"):
        row.get_by_role("button", name="Cancel").click()
    expect(row.get_by_text("Purification was cancelled")).to_be_visible()


def test_whoever_is_not_signed_in_is_asked_for_a_key_and_led_back(opened: Opener, site: Site) -> None:
    page = opened("/", "anna")
    page.get_by_role("button", name="Sign out").click()
    page.goto("/j")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.get_by_label("Key").fill("not a key")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("This key opens nothing")
    page.goto("/j")
    page.get_by_label("Key").fill(site.keys["anna"])
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
