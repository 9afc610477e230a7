"""Images that the server reads from its own disks: only below the folders that the operator names."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from siftline.settings import Settings
from tests.integration.api.conftest import is_problem, png, statuses, zipped

Start = Callable[..., TestClient]
sqlite_only = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def from_source(api: TestClient, uri: str) -> Any:
    return api.post("/datasets", json={"name": "x", "source": {"uri": uri}, "options": {"purify": False}})


@sqlite_only
def test_a_folder_below_a_source_root_is_read_without_leaving_it(api_with: Start, tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "b ü").mkdir(parents=True)
    outside.mkdir()
    (outside / "secret.png").write_bytes(png(9))
    (root / "b ü" / "2.png").write_bytes(png(2))
    (root / "1.png").write_bytes(png(1))
    (root / "more.zip").write_bytes(zipped(("3.png", png(3))))
    (root / "link.png").symlink_to(outside / "secret.png")
    (root / "linked").symlink_to(outside)
    (root / ".hidden.png").write_bytes(png(4))
    api = api_with(source_roots=(root,))
    body = from_source(api, root.as_uri()).json()
    assert statuses(body) == [
        ("1.png", "accepted", None),
        ("link.png", "rejected", "unsafe-path"),
        ("linked", "rejected", "unsafe-path"),
        ("3.png", "accepted", None),
        ("b ü/2.png", "accepted", None),
    ]
    assert (root / "1.png").exists()
    one = from_source(api, (root / "1.png").as_uri()).json()
    assert statuses(one) == [("1.png", "accepted", None)]
    for uri in (
        outside.as_uri(),
        f"{root.as_uri()}/../outside",
        f"{root.as_uri()}/linked",
        "file:///etc/passwd",
    ):
        assert is_problem(from_source(api, uri), 403, "forbidden")
    assert is_problem(from_source(api, f"{root.as_uri()}/nothing"), 422, "unprocessable")
    assert is_problem(from_source(api, "http://127.0.0.1/"), 422, "validation-error")
    assert is_problem(from_source(api, f"{root.as_uri()}/%00"), 422, "unprocessable")


@sqlite_only
def test_what_cannot_be_read_of_a_source_has_a_receipt_and_never_fails_the_rest(
    api_with: Start, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    (root / "real").mkdir(parents=True)
    (root / "real" / "1.png").write_bytes(png(1))
    (root / "circle.png").symlink_to(root / "circle.png")
    (root / "gone.png").symlink_to(root / "nothing")
    (root / "once more").symlink_to(root / "real")
    api = api_with(source_roots=(root,))
    assert statuses(from_source(api, root.as_uri()).json()) == [
        ("circle.png", "rejected", "not-a-file"),
        ("gone.png", "rejected", "not-a-file"),
        ("once more", "rejected", "unread-folder"),
        ("real/1.png", "accepted", None),
    ]
    for uri in (f"{root.as_uri()}/circle.png", f"{root.as_uri()}/{'x' * 300}"):
        assert is_problem(from_source(api, uri), 422, "unprocessable")


@sqlite_only
def test_links_are_followed_before_a_source_is_found_small_enough(api_with: Start, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "1.png").write_bytes(png(1))
    for number in range(9):
        (root / f"link {number}.png").symlink_to(root / "1.png")
    api = api_with(source_roots=(root,), max_source_bytes=5 * len(png(1)))
    assert is_problem(from_source(api, root.as_uri()), 422, "unprocessable")


@sqlite_only
def test_a_source_never_hands_out_what_the_server_itself_keeps(
    api_with: Start, settings: Settings, tmp_path: Path
) -> None:
    api = api_with(source_roots=(settings.data_dir,))
    assert from_source(api, settings.blobs_dir.as_uri()).status_code == 403
    api.post(
        "/datasets", files={"files": ("1.png", png(1))}, data={"name": "x", "options": '{"purify": false}'}
    )
    told = statuses(from_source(api, settings.data_dir.as_uri()).json())
    assert told
    assert "accepted" not in {status for _, status, _ in told}


@sqlite_only
def test_no_source_is_read_unless_a_root_is_set(api: TestClient, tmp_path: Path) -> None:
    assert is_problem(from_source(api, tmp_path.as_uri()), 403, "forbidden")
