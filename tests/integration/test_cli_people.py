"""What people do from the command line on a ranked dataset: decide, take back, carry out, hand out keys."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4
from zipfile import ZipFile

import pytest

from siftline import Client
from siftline.domain.errors import NotFound
from siftline.schemas import DatasetOptions, Selection
from siftline.store.session import make_engine, session_factory
from tests.integration.api.reviewing import rank
from tests.integration.api.server import Server
from tests.integration.commands import run
from tests.integration.scripted import Script, problem, scripted
from tests.integration.served import some_images

SUSPECTS = 2


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server") / "data")
    server.start()
    yield server
    server.kill()


@dataclass(frozen=True, slots=True)
class Ranked:
    url: str
    id: UUID
    images: list[UUID]

    def run(self, *arguments: object) -> Any:
        answer = run(*arguments, "--json", "--url", self.url)
        assert answer.returncode == 0, answer.stderr
        return json.loads(answer.stdout)


@pytest.fixture
def ranked(server: Server, tmp_path: Path) -> Ranked:
    """Six images of which two are suspect, the first one the most."""
    with Client(server.url) as client:
        options = DatasetOptions(purify=False)
        dataset = client.upload("n", [some_images(tmp_path / "sent", range(6))], options).dataset
        images = [image.id for image in client.images(dataset.id)]
    engine = make_engine(server.settings.sqlalchemy_url)
    rank(session_factory(engine), dataset.id, images, suspects=SUSPECTS)
    engine.dispose()
    return Ranked(server.url, dataset.id, images)


def test_named_images_are_decided_and_the_decision_is_taken_back(ranked: Ranked) -> None:
    batch = ranked.run("review", "decide", ranked.id, "keep", *ranked.images[:2])
    assert (batch["images"], batch["decision"], batch["by"]) == (2, "keep", "local")
    with Client(ranked.url) as client:
        assert [i.review for i in client.purified(ranked.id).items[:3]] == ["keep", "keep", None]
        undone = ranked.run("review", "undo", ranked.id)
        assert (undone["undoes"], undone["skipped"]) == (batch["id"], 0)
        assert [i.review for i in client.purified(ranked.id).items] == [None] * 6
    listed = ranked.run("review", "list", ranked.id)
    assert [entry["id"] for entry in listed] == [undone["id"], batch["id"]]


def test_all_that_fit_are_decided_at_once(ranked: Ranked) -> None:
    batch = ranked.run("review", "decide", ranked.id, "reject", "--verdict", "clean", "--max-score", "0.5")
    with Client(ranked.url) as client:
        rejected = client.purified(ranked.id, selection=Selection(review="reject")).items
    assert batch["images"] == len(rejected) == 3
    assert all(item.verdict == "clean" and item.score <= 0.5 for item in rejected)


def test_whoever_has_not_seen_another_one_s_decision_is_told() -> None:
    script = Script()
    script.answers = [(412, problem(412, "decided-since"), {})]
    with scripted(script) as url:
        answer = run("review", "decide", uuid4(), "keep", uuid4(), "--revision", 3, "--url", url)
    assert script.asked[0][2]["If-Match"] == '"3"'
    assert answer.returncode == 1
    assert "because of decided-since" in answer.stderr


@pytest.mark.parametrize(
    "more", [[], ["--version", 2], [uuid4(), "--version", 2], [uuid4(), "--verdict", "clean"]]
)
def test_a_decision_about_nothing_or_about_two_things_is_a_usage_error(more: list[object]) -> None:
    answer = run("review", "decide", uuid4(), "keep", *more, "--url", "http://127.0.0.1:9")
    assert answer.returncode == 2
    assert "--verdict" in answer.stderr


def test_an_option_out_of_its_bounds_is_named(ranked: Ranked) -> None:
    answer = run("review", "decide", ranked.id, "keep", "--cluster", 2**40, "--url", ranked.url)
    assert answer.returncode == 2
    assert "cluster: " in answer.stderr


def test_a_cut_and_a_miss_become_jobs(ranked: Ranked) -> None:
    recut = ranked.run("review", "recut", ranked.id, "--cut-score", 0.4)
    miss = ranked.run("review", "miss", ranked.id, ranked.images[5])
    assert (recut["kind"], miss["kind"]) == ("recut", "similar")
    shown = run("review", "list", ranked.id, "--url", ranked.url)
    assert "reject" in shown.stdout


def test_the_histogram_and_the_difference_of_versions_come_typed(ranked: Ranked) -> None:
    with Client(ranked.url) as client:
        assert sum(bin_.count for bin_ in client.histogram(ranked.id, bins=4).bins) == 6
        assert client.diff(ranked.id, 1, 1).newly_suspect == []


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet", "coco", "zip", "mvtec", "fiftyone"])
def test_every_export_is_written_whole(ranked: Ranked, tmp_path: Path, form: str) -> None:
    path = tmp_path / "out" / f"x.{form}"
    done = ranked.run("export", ranked.id, path, "--format", form)
    assert done["bytes"] == path.stat().st_size > 0
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_report_and_the_plots_come_as_they_are_shown(ranked: Ranked, tmp_path: Path) -> None:
    ranked.run("export", ranked.id, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
    with Client(ranked.url) as client:
        assert client.plot(ranked.id, "histogram").startswith(b"\x89PNG")
        with pytest.raises(NotFound):
            client.explanation(ranked.images[0])


def test_the_form_of_an_export_follows_from_the_file_s_name(ranked: Ranked, tmp_path: Path) -> None:
    ranked.run("export", ranked.id, tmp_path / "x.csv", "--verdict", "suspect")
    ranked.run("export", ranked.id, tmp_path / "x.zip")
    with (tmp_path / "x.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == SUSPECTS
    with ZipFile(tmp_path / "x.zip") as archive:
        assert sum(name.endswith(".png") for name in archive.namelist()) == 6 - SUSPECTS


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Any]]:
    """A server, and the first key to it, made on its machine before it started."""
    folder = tmp_path_factory.mktemp("guarded") / "data"
    first = run("key", "create", "ada", "--role", "admin", "--local", "--data-dir", folder, "--json")
    assert first.returncode == 0, first.stderr
    server = Server(folder)
    server.start()
    yield server, json.loads(first.stdout)["key"]
    server.kill()


def test_the_first_key_is_made_on_this_machine_and_opens_the_door(guarded: tuple[Server, Any]) -> None:
    server, first = guarded
    admin = {"SIFTLINE_API_KEY": first, "SIFTLINE_URL": server.url}
    assert run("jobs", "--url", server.url).returncode == 2
    second = json.loads(run("key", "create", "bob", "--json", **admin).stdout)
    viewer = admin | {"SIFTLINE_API_KEY": second["key"]}
    jobs = run("jobs", **viewer)
    assert (jobs.returncode, "There are no jobs yet" in jobs.stderr) == (0, True)
    refused = run("key", "list", **viewer)
    assert (refused.returncode, "role admin" in refused.stderr) == (2, True)
    assert run("key", "revoke", second["id"], **admin).returncode == 0
    assert run("jobs", **viewer).returncode == 2
    listed = json.loads(run("key", "list", "--json", **admin).stdout)
    shown = run("key", "list", **admin).stdout
    assert [(key["name"], key["revoked_at"] is None) for key in listed] == [("bob", False), ("ada", True)]
    assert second["key"] not in shown


def test_a_key_is_rotated_and_the_log_of_its_workspace_tells_who_did_what(
    guarded: tuple[Server, Any],
) -> None:
    server, _ = guarded
    here = ("--local", "--data-dir", server.settings.data_dir, "--json")
    first = json.loads(run("key", "create", "ada", "--role", "admin", "--workspace", "line-4", *here).stdout)
    assert first["workspace"] == "line-4"
    old = {"SIFTLINE_API_KEY": first["key"], "SIFTLINE_URL": server.url}
    second = json.loads(run("key", "rotate", first["id"], "--grace", 3600, "--json", **old).stdout)
    new = old | {"SIFTLINE_API_KEY": second["key"]}
    assert [run("jobs", **key).returncode for key in (old, new)] == [0, 0]
    third = json.loads(run("key", "rotate", first["id"], *here).stdout)
    last = old | {"SIFTLINE_API_KEY": third["key"]}
    assert run("jobs", **last).returncode == 0
    log = json.loads(run("audit", "--json", **last).stdout)
    shown = run("audit", **last).stdout
    assert [(entry["action"], entry["who"]) for entry in log] == [
        ("siftline key rotate", "command-line"),
        ("POST /keys/{key_id}/rotate", "ada"),
        ("siftline key create", "command-line"),
    ]
    assert log[1]["objects"] == [f"key:{first['id']}"]
    assert "rotate" in shown
    assert not [key for key in (first, second, third) if key["key"] in str(log) + shown]


def test_a_first_key_that_could_make_no_others_is_refused(tmp_path: Path) -> None:
    answer = run("key", "create", "bob", "--local", "--data-dir", tmp_path / "data")
    assert answer.returncode == 1
    assert "admin" in answer.stderr
