"""Keep, reject, clear, undo: by key, by button, in bulk; nothing lost, whoever else is there."""

import re

from playwright.sync_api import APIResponse, Page, Route, expect

from tests.browser.conftest import Opener, Site, sign_in
from tests.browser.looking import (
    card,
    cards,
    expect_tag,
    expect_undecided,
    focus_first,
    names,
    wait_until_sent,
)


def test_a_decision_by_key_stands_on_the_server_and_after_a_reload(
    opened: Opener, gallery: str, site: Site
) -> None:
    page = opened(gallery, "anna")
    first = focus_first(page)
    page.keyboard.press("x")
    expect_tag(page, first, "Rejected")
    expect(page.locator("#n-rejected")).to_have_text("1")
    assert site.said()[first] == ("reject", "anna")
    page.reload()
    expect_tag(page, first, "Rejected")
    assert "anna" in (card(page, first).locator(".tag.reject").get_attribute("title") or "")


def test_undo_brings_back_what_stood_before(opened: Opener, gallery: str, site: Site) -> None:
    page = opened(gallery, "anna")
    first = focus_first(page)
    page.keyboard.press("k")
    expect_tag(page, first, "Kept")
    cards(page).first.focus()
    page.keyboard.press("x")
    expect_tag(page, first, "Rejected")
    page.keyboard.press("z")
    expect_tag(page, first, "Kept")
    wait_until_sent(page)
    page.keyboard.press("Control+z")
    expect_undecided(page, first)
    wait_until_sent(page)
    assert site.said()[first] == (None, None)


def test_a_selection_is_decided_at_once(opened: Opener, gallery: str, site: Site) -> None:
    page = opened(gallery, "anna")
    shown = names(page)
    cards(page).nth(1).click()
    cards(page).nth(3).click(modifiers=["Shift"])
    expect(page.locator("#actions-for")).to_have_text("3 selected")
    page.get_by_role("toolbar").get_by_role("button", name="Keep").click()
    for name in shown[1:4]:
        expect_tag(page, name, "Kept")
    wait_until_sent(page)
    said = site.said()
    assert all(said[name] == ("keep", "anna") for name in shown[1:4])
    assert said[shown[0]] == (None, None)


def test_a_folded_card_speaks_for_its_near_duplicates(opened: Opener, gallery: str, site: Site) -> None:
    page = opened(gallery.replace("folded=false", "folded=true"), "anna")
    folded = page.locator(".card", has=page.locator(".tag", has_text=re.compile(r"^\+1$"))).first
    name = folded.get_attribute("title") or ""
    folded.click()
    page.keyboard.press("x")
    expect_tag(page, name, "Rejected")
    wait_until_sent(page)
    rejected = [name for name, (review, _) in site.said().items() if review == "reject"]
    assert len(rejected) == 2
    assert name in rejected


def test_all_that_fit_a_filter_are_kept_in_one_request_and_one_undo_takes_it_back(
    opened: Opener, gallery: str, site: Site
) -> None:
    page = opened(gallery, "anna")
    names(page)
    page.get_by_text("All of these").click()
    page.get_by_role("button", name="Keep all that fit").click()
    page.get_by_role("dialog").get_by_role("button", name=re.compile("Keep 48")).click()
    expect(page.locator("#n-kept")).to_have_text("48")
    assert {review for review, _ in site.said().values()} == {"keep"}
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#n-kept")).to_have_text("0")
    assert {review for review, _ in site.said().values()} == {None}


def test_a_decision_without_a_connection_waits_and_is_sent_when_it_is_back(
    opened: Opener, gallery: str, site: Site
) -> None:
    page = opened(gallery, "anna")
    first = focus_first(page)
    page.context.set_offline(True)
    page.keyboard.press("k")
    expect(card(page, first).locator(".tag.keep.pending")).to_be_visible()
    expect(page.locator("#outbox")).to_have_text("1 not sent yet")
    assert site.said()[first] == (None, None)
    page.context.set_offline(False)
    expect_tag(page, first, "Kept")
    assert site.said()[first] == ("keep", "anna")


def _refuse(route: Route) -> None:
    route.abort("connectionrefused")


def _reject_first_in_vain(page: Page) -> str:
    page.route("**/reviews", _refuse)
    first = focus_first(page)
    page.keyboard.press("x")
    expect(card(page, first).locator(".tag.reject.pending")).to_be_visible()
    return first


def test_a_decision_that_could_not_be_sent_survives_a_reload(
    opened: Opener, gallery: str, site: Site
) -> None:
    page = opened(gallery, "anna")
    first = _reject_first_in_vain(page)
    page.unroute("**/reviews", _refuse)
    page.reload()
    expect_tag(page, first, "Rejected")
    assert site.said()[first] == ("reject", "anna")


def test_an_unsent_decision_waits_for_who_made_it_and_is_not_signed_by_the_next_at_this_screen(
    opened: Opener, gallery: str, site: Site
) -> None:
    page = opened(gallery, "anna")
    first = _reject_first_in_vain(page)
    page.goto("about:blank")  # where nothing is sent
    page.unroute("**/reviews", _refuse)
    sign_in(page.context, site, site.keys["ben"])
    page.goto(gallery)
    names(page)
    expect_undecided(page, first)
    sign_in(page.context, site, site.keys["anna"])
    page.goto(gallery)
    expect_tag(page, first, "Rejected")
    assert site.said()[first] == ("reject", "anna")


def test_a_list_read_before_a_decision_and_arriving_after_its_answer_does_not_hide_it(
    opened: Opener, gallery: str, site: Site
) -> None:
    page = opened(gallery, "anna")
    read_before = list[tuple[Route, APIResponse]]()
    first = _reject_first_in_vain(page)
    page.route(re.compile(r"/items\?"), lambda route: read_before.append((route, route.fetch())))
    page.reload()
    while not read_before:
        page.wait_for_timeout(20)
    page.unroute("**/reviews", _refuse)
    wait_until_sent(page)
    assert site.said()[first] == ("reject", "anna")
    route, undecided = read_before[0]
    route.fulfill(response=undecided)
    expect_tag(page, first, "Rejected")


def test_what_another_person_decides_is_seen_here_with_the_name(opened: Opener, gallery: str) -> None:
    anna, ben = opened(gallery, "anna"), opened(gallery, "ben")
    first = focus_first(anna)
    names(ben)
    anna.keyboard.press("x")
    expect_tag(ben, first, "Rejected")
    assert "anna" in (card(ben, first).locator(".tag.reject").get_attribute("title") or "")


def _both_decide(anna: Page, ben: Page) -> str:
    """Ben has not seen what Anna said when he says the opposite."""
    first, held = focus_first(anna), list[Route]()
    focus_first(ben)

    def hold_the_first(route: Route) -> None:
        if held:
            route.continue_()
        else:
            held.append(route)

    ben.route("**/changes*", lambda route: route.abort())
    ben.route("**/reviews", hold_the_first)
    anna.keyboard.press("x")
    expect_tag(anna, first, "Rejected")
    ben.keyboard.press("k")
    expect(card(ben, first).locator(".tag.keep.pending")).to_be_visible()
    while not held:
        ben.wait_for_timeout(20)
    ben.unroute("**/changes*")  # not before he has said it: the page looks for news every few seconds
    held[0].continue_()
    expect(ben.get_by_role("dialog", name="Somebody else was faster")).to_contain_text(
        f"{first}: reject, anna"
    )
    return first


def test_of_two_that_disagree_the_later_may_leave_the_others_word(
    opened: Opener, gallery: str, site: Site
) -> None:
    anna, ben = opened(gallery, "anna"), opened(gallery, "ben")
    first = _both_decide(anna, ben)
    ben.get_by_role("button", name="Leave theirs").click()
    expect_tag(ben, first, "Rejected")
    assert site.said()[first] == ("reject", "anna")


def test_of_two_that_disagree_the_later_may_insist(opened: Opener, gallery: str, site: Site) -> None:
    anna, ben = opened(gallery, "anna"), opened(gallery, "ben")
    first = _both_decide(anna, ben)
    ben.get_by_role("button", name="Use mine").click()
    expect_tag(ben, first, "Kept")
    expect_tag(anna, first, "Kept")
    assert site.said()[first] == ("keep", "ben")


def test_a_viewer_looks_and_decides_nothing(opened: Opener, gallery: str) -> None:
    page = opened(gallery, "vera")
    first = focus_first(page)
    expect(page.get_by_role("toolbar")).to_have_count(0)
    page.keyboard.press("x")
    expect_undecided(page, first)
