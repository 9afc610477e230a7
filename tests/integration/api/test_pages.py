"""The pages as the server writes them, and what their scripts read, on both databases."""

import re
import struct
from html.parser import HTMLParser
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from benchmarks.review_page import fill
from siftline.settings import Settings
from siftline.store.models import Image, PurifiedItem
from siftline.store.session import reading, transaction
from tests.integration.api.conftest import made, open_client, png
from tests.integration.api.test_answers import pages, write_version
from tests.integration.detecting import add_untrained

HOSTILE = "<script>alert(1)</script>"
ROWS = 120
"""Of `benchmarks.review_page.fill`: six suspects, twelve images with one near-duplicate each."""


@pytest.fixture
def ranked(sessions: sessionmaker[Session]) -> UUID:
    with transaction(sessions) as session:
        return fill(session, ROWS)


class Parsed(HTMLParser):
    """What the content policy forbids, and what was said."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.inline: list[str] = []
        self.outside: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "style" or (tag == "script" and "src" not in given):
            self.inline.append(tag)
        self.inline += [f"{tag} {name}" for name in given if name == "style" or name.startswith("on")]
        links = [given.get(name) or "" for name in ("src", "href", "action")]
        self.outside += [link for link in links if link.startswith(("http:", "https:", "//"))]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_pages_hold_nothing_inline_and_nothing_from_outside(
    api: TestClient, sessions: sessionmaker[Session], ranked: UUID
) -> None:
    detector = f"/m/{add_untrained(sessions).id}"
    dataset = f"/d/{ranked}"
    for path in ("/", dataset, f"{dataset}/diff?from=1&to=1", "/m", detector, "/j", "/signin", "/docs"):
        answer = api.get(path)
        assert answer.status_code == 200, path
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'self';")
        assert "unsafe" not in policy
        parsed = Parsed(answer.text)
        assert (parsed.inline, parsed.outside) == ([], []), path


def test_a_hostile_name_is_text_on_every_page(api: TestClient) -> None:
    dataset = made(api, ("a.png", png(1)), name=HOSTILE)["dataset"]["id"]
    for path in ("/", f"/d/{dataset}", f"/d/{dataset}/row", "/j", "/m"):
        answer = api.get(path)
        assert answer.status_code == 200
        assert HOSTILE not in answer.text, path
    assert HOSTILE in Parsed(api.get(f"/d/{dataset}").text).text


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_version_without_suspects_opens_on_what_needs_review(
    api: TestClient, sessions: sessionmaker[Session]
) -> None:
    dataset = made(api, ("a.png", png(1)), ("b.png", png(2)))["dataset"]["id"]
    ranked = [image["id"] for image in pages(api, f"/datasets/{dataset}/images")]
    for suspects, opens_on in ((0, "review"), (1, "suspect")):
        write_version(sessions, dataset, ranked, suspects)
        assert re.findall(r'name="show" value="(\w*)" checked', api.get(f"/d/{dataset}").text) == [opens_on]


def test_a_dataset_without_a_version_says_what_it_waits_for(api: TestClient) -> None:
    dataset = made(api, ("a.png", png(1)))["dataset"]["id"]
    assert "Purification: waiting for a worker" in api.get(f"/d/{dataset}").text


@pytest.mark.parametrize("path", ["/d/nonsense", "/d/0190a0a0-0000-7000-8000-000000000000"])
def test_errors_of_pages_are_pages(api: TestClient, path: str) -> None:
    answer = api.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")
    assert "To the datasets" in answer.text


def test_files_of_the_page_are_asked_for_again_and_answered_304(api: TestClient) -> None:
    answer = api.get("/static/js/dataset.js")
    assert answer.headers["cache-control"] == "no-cache"
    again = api.get("/static/js/dataset.js", headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304
    assert api.get("/static/../pages.py").status_code == 404


def test_without_a_key_there_is_only_the_sign_in_page(settings: Settings) -> None:
    with open_client(settings.model_copy(update={"api_key": SecretStr("s" * 40)})) as api:
        led = api.get("/m", headers={"Accept": "text/html"}, follow_redirects=False)
        assert (led.status_code, led.headers["location"]) == (303, "/signin?next=/m")
        assert api.get("/signin").status_code == 200
        assert api.get("/d/0190a0a0-0000-7000-8000-000000000000/items").status_code == 401


def items(api: TestClient, dataset: UUID, **wanted: Any) -> dict[str, Any]:
    answer = api.get(f"/d/{dataset}/items", params=wanted)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def ranks(page: dict[str, Any]) -> list[int]:
    return [item["rank"] for item in page["items"]]


def test_any_stretch_of_the_list_is_the_same_as_that_part_of_the_whole(api: TestClient, ranked: UUID) -> None:
    for wanted in (
        {"folded": False},
        {"folded": True},
        {"order": "disputed"},
        {"order": "clean", "folded": False},
    ):
        whole = items(api, ranked, limit=500, **wanted)
        assert len(whole["items"]) == whole["total"]
        part = items(api, ranked, offset=37, limit=11, **wanted)
        assert ranks(part) == ranks(whole)[37:48]
    assert ranks(items(api, ranked, folded=False, limit=500)) == list(range(1, ROWS + 1))


def test_near_duplicates_are_folded_under_the_first_that_fits(api: TestClient, ranked: UUID) -> None:
    folded = items(api, ranked, limit=500)
    assert (folded["images"], folded["total"]) == (ROWS, ROWS - ROWS // 20)
    assert 2 not in ranks(folded)
    # the leader does not fit, so its twin stands for itself
    assert ranks(items(api, ranked, name_contains="000001")) == [2]


def test_filters_narrow_and_bad_ones_are_refused(api: TestClient, ranked: UUID) -> None:
    assert ranks(items(api, ranked, verdict="suspect", folded=False)) == [1, 2, 3, 4, 5, 6]
    assert ranks(items(api, ranked, needs_review=True)) == [1, 51, 101]
    assert ranks(items(api, ranked, cluster=3)) == [4]
    for wrong in ({"offset": -1}, {"order": "random"}, {"name_contains": "\x00"}, {"min_score": "nan"}):
        assert api.get(f"/d/{ranked}/items", params=wrong).status_code == 422, wrong


def decide(api: TestClient, dataset: UUID, word: str, *image_ids: str) -> None:
    body = {"decisions": [{"image_id": image_id, "decision": word} for image_id in image_ids]}
    assert api.post(f"/datasets/{dataset}/reviews", json=body).status_code in (200, 201)


def test_decisions_are_seen_in_lists_tally_scores_and_changes_at_once(
    api: TestClient, ranked: UUID, sessions: sessionmaker[Session]
) -> None:
    first = items(api, ranked, folded=False, limit=10)["items"]
    before = items(api, ranked)["revision"]
    decide(api, ranked, "keep", first[0]["image_id"])
    decide(api, ranked, "reject", first[7]["image_id"])
    assert ranks(items(api, ranked, review="keep")) == [1]
    assert 8 not in ranks(items(api, ranked, review="none", folded=False, limit=500))
    tally = api.get(f"/d/{ranked}/tally").json()
    assert [tally[name] for name in ("clean", "suspect", "kept", "rejected")] == [ROWS - 6, 6, 1, 1]
    told = api.get(f"/d/{ranked}/scores").content
    assert struct.unpack("<3I", told[:12]) == (ROWS - 2, 1, 1)
    with reading(sessions) as session:
        best = session.scalar(select(PurifiedItem.score).where(PurifiedItem.rank == 1))
    assert struct.unpack_from("<f", told, 12 + 4 * (ROWS - 2)) == (best,)
    changes = api.get(f"/d/{ranked}/changes", params={"since": before}).json()
    assert {one["image_id"]: one["review"] for one in changes["images"]} == {
        first[0]["image_id"]: "keep",
        first[7]["image_id"]: "reject",
    }
    assert api.get(f"/d/{ranked}/changes", params={"since": changes["revision"]}).json()["images"] == []


def test_the_history_of_an_image_tells_every_word_and_undo(api: TestClient, ranked: UUID) -> None:
    image = items(api, ranked)["items"][0]["image_id"]
    decide(api, ranked, "keep", image)
    decide(api, ranked, "reject", image)
    assert api.post(f"/datasets/{ranked}/reviews/undo", json={}).status_code in (200, 201)
    said = api.get(f"/d/{ranked}/history/{image}").json()
    assert [(one["decision"], one["undo"]) for one in said] == [
        ("keep", True),
        ("reject", False),
        ("keep", False),
    ]
    assert {one["by"] for one in said} == {"local"}


def test_groups_of_suspects_are_told_with_what_was_decided(api: TestClient, ranked: UUID) -> None:
    decide(api, ranked, "keep", items(api, ranked, cluster=3)["items"][0]["image_id"])
    groups = {one["cluster"]: one for one in api.get(f"/d/{ranked}/clusters").json()}
    assert sorted(groups) == [0, 1, 2, 3, 4, 5]
    assert (groups[3]["images"], groups[3]["kept"], groups[3]["rejected"]) == (1, 1, 0)


def test_a_place_in_the_list_is_found_for_a_link(
    api: TestClient, ranked: UUID, sessions: sessionmaker[Session]
) -> None:
    with reading(sessions) as session:
        image = session.scalar(select(Image.id).where(Image.name.contains("000041")))
    assert api.get(f"/d/{ranked}/place/{image}").json() == {"rank": 42}
    assert api.get(f"/d/{ranked}/place/{ranked}").status_code == 404
