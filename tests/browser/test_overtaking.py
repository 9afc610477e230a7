"""Answers that come late, overtake each other, or cross what somebody does meanwhile."""

import re

from playwright.sync_api import APIResponse, Page, Route, expect

from tests.browser.conftest import PATIENCE_MS, Opener, Site
from tests.browser.looking import (
    card,
    expect_tag,
    expect_undecided,
    focus_first,
    names,
    wait_until_sent,
)


class Held:
    """The first request that fits: kept back, before the server sees it (`asked`) or after (`answered`)."""

    def __init__(self, page: Page, what: str, *, answered: bool = False) -> None:
        self._page, self._answered = page, answered
        self._route: Route | None = None
        self._answer: APIResponse | None = None
        page.route(re.compile(what), self._take)

    def _take(self, route: Route) -> None:
        if self._route is not None:
            route.continue_()
            return
        self._route = route
        self._answer = route.fetch() if self._answered else None

    def wait(self) -> None:
        for _ in range(PATIENCE_MS // 20):
            if self._route is not None and (self._answer is not None or not self._answered):
                return
            self._page.wait_for_timeout(20)
        raise AssertionError("nothing came that fits")

    def release(self) -> None:
        """And wait until the page has taken it in."""
        assert self._route is not None
        request = self._route.request
        with self._page.expect_event("requestfinished", lambda one: one == request):
            if self._answer is not None:
                self._route.fulfill(response=self._answer)
            else:
                self._route.continue_()
        self._page.evaluate("new Promise((drawn) => requestAnimationFrame(() => setTimeout(drawn)))")


def image_of(page: Page, name: str) -> str:
    return card(page, name).get_attribute("data-image") or ""


def say(site: Site, who: str, image: str, word: str) -> None:
    """Not by the page under test."""
    with site.client() as client:
        said = {"decisions": [{"image_id": image, "decision": word}]}
        key = {"X-API-Key": site.keys[who]}
        client.post(f"/datasets/{site.dataset}/reviews", json=said, headers=key).raise_for_status()


def test_undo_takes_back_the_decision_that_is_on_its_way_and_not_the_one_before(
    opened: Opener, gallery: str, site: Site
) -> None:
    page = opened(gallery, "anna")
    first, second = names(page)[:2]
    focus_first(page)
    page.keyboard.press("x")
    expect_tag(page, first, "Rejected")
    on_its_way = Held(page, "/reviews$", answered=True)
    page.keyboard.press("k")
    on_its_way.wait()
    page.keyboard.press("z")
    expect_undecided(page, second)
    on_its_way.release()
    wait_until_sent(page)
    expect_tag(page, first, "Rejected")
    expect_undecided(page, second)
    page.keyboard.press("z")
    expect_undecided(page, first)
    wait_until_sent(page)
    assert {review for review, _ in site.said().values()} == {None}


def test_an_undo_that_must_leave_an_image_alone_shows_what_stands_there(
    opened: Opener, gallery: str, site: Site
) -> None:
    page = opened(gallery, "anna")
    first = focus_first(page)
    page.keyboard.press("k")
    expect_tag(page, first, "Kept")
    say(site, "ben", image_of(page, first), "reject")
    expect_tag(page, first, "Rejected")
    page.keyboard.press("z")
    wait_until_sent(page)
    expect_tag(page, first, "Rejected")


def test_news_that_are_overtaken_by_a_decision_do_not_hide_it(
    opened: Opener, gallery: str, site: Site
) -> None:
    page = opened(gallery, "anna")
    first = focus_first(page)
    say(site, "anna", image_of(page, first), "reject")  # in another window of hers
    news = Held(page, r"/changes\?", answered=True)
    news.wait()
    page.keyboard.press("k")
    expect_tag(page, first, "Kept")
    news.release()
    expect(card(page, first).locator(".tag.keep")).to_be_visible()
    assert card(page, first).locator(".tag.reject").count() == 0


def test_counts_read_before_a_decision_do_not_replace_those_after_it(opened: Opener, gallery: str) -> None:
    page = opened("/", "anna")
    scores = Held(page, r"/scores\?", answered=True)
    page.goto(gallery)
    first = focus_first(page)
    scores.wait()
    page.keyboard.press("x")
    expect_tag(page, first, "Rejected")
    expect(page.locator("#cut-readout")).to_contain_text("1 decided by people")
    scores.release()
    assert "1 decided by people" in page.locator("#cut-readout").inner_text()


def test_a_question_does_not_take_the_answer_to_another_and_is_put_again_when_it_could_not_be(
    opened: Opener, gallery: str, site: Site
) -> None:
    page = opened(gallery, "anna")
    first = focus_first(page)
    sent = Held(page, "/reviews$")
    page.keyboard.press("k")
    sent.wait()
    say(site, "ben", image_of(page, first), "reject")
    page.get_by_text("All of these").click()
    page.get_by_role("button", name="Reject all that fit").click()
    bulk = page.get_by_role("dialog", name="Reject 48 images?")
    expect(bulk).to_be_visible()
    lost = list[Route]()

    def lose(route: Route) -> None:
        lost.append(route)
        route.abort()

    page.route(re.compile(r"/changes\?"), lose)
    sent.release()
    for _ in range(PATIENCE_MS // 20):
        if lost:
            break
        page.wait_for_timeout(20)
    assert lost
    page.unroute_all()
    with page.expect_response(lambda answer: "/changes?" in answer.url):
        pass
    expect(bulk).to_be_visible()
    bulk.get_by_role("button", name="Cancel").click()
    conflict = page.get_by_role("dialog", name="Somebody else was faster")
    conflict.get_by_role("button", name="Leave theirs").click()
    expect_tag(page, first, "Rejected")
    assert {said for said in site.said().values() if said[0]} == {("reject", "ben")}


def test_all_that_fit_are_counted_in_the_list_that_was_asked_for(opened: Opener, gallery: str) -> None:
    page = opened(gallery, "anna")
    name = names(page)[0]
    listed = Held(page, r"/items\?", answered=True)
    page.get_by_placeholder("Name").fill(name)
    listed.wait()
    page.get_by_text("All of these").click()
    page.get_by_role("button", name="Keep all that fit").click()
    listed.release()
    expect(page.get_by_role("dialog", name="Keep 1 image?")).to_be_visible()


def test_of_two_addresses_the_later_is_opened(opened: Opener, gallery: str) -> None:
    page = opened(gallery, "anna")
    first, second = names(page)[:2]
    to = "image => { location.hash = image; }"
    ids = [image_of(page, name) for name in (first, second)]
    place = Held(page, f"/place/{ids[0]}", answered=True)
    page.evaluate(to, ids[0])
    place.wait()
    page.evaluate(to, ids[1])
    expect(page.locator("#viewer-name")).to_have_text(second)
    read = list[str]()
    page.on("request", lambda request: read.append(request.url))
    place.release()
    assert not [url for url in read if "/items?" in url]
    assert page.locator("#viewer-name").inner_text() == second
