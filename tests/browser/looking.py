"""How the tests look at the page: by what people and screen readers see."""

import re

from playwright.sync_api import Locator, Page, expect


def cards(page: Page) -> Locator:
    return page.get_by_role("gridcell")


def card(page: Page, name: str) -> Locator:
    return page.locator(f'.card[title="{name}"]')


def names(page: Page) -> list[str]:
    """Of the cards in sight, in their order."""
    expect(cards(page).first.locator(".name")).not_to_be_empty()
    return [name for name in page.locator(".card .name").all_text_contents() if name]


def focus_first(page: Page) -> str:
    """Give the first card the focus; its name."""
    first = names(page)[0]
    cards(page).first.focus()
    return first


def expect_tag(page: Page, name: str, said: str) -> None:
    """Decided, and the server has answered."""
    tag = card(page, name).locator(".tag:not(.pending)", has_text=re.compile(f"^{said}$"))
    expect(tag).to_be_visible()


def expect_undecided(page: Page, name: str) -> None:
    expect(card(page, name).locator(".tag.keep, .tag.reject")).to_have_count(0)


def wait_until_sent(page: Page) -> None:
    """The page's policy forbids eval, with which Playwright's own waiting works."""
    waiting = "Object.keys(localStorage).filter((key) => key.startsWith('siftline.outbox')).length"
    for _ in range(300):
        if page.evaluate(waiting) == 0:
            return
        page.wait_for_timeout(100)
    raise AssertionError("decisions are still waiting to be sent")
