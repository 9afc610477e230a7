"""Images to look at: every kind there is, their thumbnails and heat maps."""

import io
from errno import ENOSPC
from uuid import uuid4

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from sqlalchemy.orm import Session, sessionmaker

from siftline.settings import Settings
from siftline.store.spool import SpoolWriter
from tests.integration.api.conftest import encoded, is_head_of, is_problem, made, png, spool_is_empty
from tests.integration.api.test_answers import pages, write_version


def deep(bits: int) -> bytes:
    ramp = np.linspace(0, 2**bits - 1, 64 * 48).reshape(48, 64).astype(np.uint16)
    return encoded(Image.fromarray(ramp), "TIFF")


def exif_turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(Image.new("RGB", (64, 48), "red"), "JPEG", exif=exif)


KINDS = {
    "grey": encoded(Image.new("L", (64, 48), 9), "PNG"),
    "palette": encoded(Image.new("RGB", (64, 48), "green").convert("P"), "GIF"),
    "cmyk": encoded(Image.new("CMYK", (64, 48), (9, 80, 3, 5)), "JPEG"),
    "alpha": encoded(Image.new("RGBA", (64, 48), (9, 80, 3, 50)), "WEBP", lossless=True),
    "one-bit": encoded(Image.new("1", (64, 48), 1), "PNG"),
    "sixteen-bit": deep(16),
    "twelve-bit": deep(12),
    "turned": exif_turned(),
    "line-camera": encoded(Image.new("L", (4096, 48), 70), "PNG"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_image_is_taken_shown_and_given_back_bit_for_bit(
    api: TestClient, sessions: sessionmaker[Session], kind: str
) -> None:
    body = made(api, (f"{kind} «ü».png", KINDS[kind]))
    image = next(pages(api, f"/datasets/{body['dataset']['id']}/images"))
    content = api.get(image["content_url"])
    assert content.content == KINDS[kind]
    assert content.headers["content-type"] == f"image/{image['format']}"
    assert content.headers["x-content-type-options"] == "nosniff"
    assert content.headers["content-disposition"].startswith("inline; filename*=UTF-8''")
    assert is_head_of(api.head(image["content_url"]), content)
    again = api.get(image["content_url"], headers={"If-None-Match": content.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    if kind == "turned":
        assert (image["width"], image["height"]) == (48, 64)
    write_version(sessions, body["dataset"]["id"], [image["id"]], suspects=1)
    for path, media_type in (("thumbnail", "webp"), ("heatmap", "png"), ("heatmap?overlay=false", "png")):
        answer = api.get(f"/images/{image['id']}/{path}")
        assert answer.headers["content-type"] == f"image/{media_type}"
        assert is_head_of(api.head(f"/images/{image['id']}/{path}"), answer)
        shown = Image.open(io.BytesIO(answer.content))
        # a scan longer than 8:1 is squeezed in its thumbnail, on purpose
        assert (shown.width > shown.height) == (image["width"] > image["height"])


def test_a_twelve_bit_image_is_as_bright_in_its_thumbnail_as_it_was_before_the_camera(
    api: TestClient,
) -> None:
    body = made(api, ("a.tif", deep(12)))
    image = next(pages(api, f"/datasets/{body['dataset']['id']}/images"))
    shown = np.asarray(Image.open(io.BytesIO(api.get(image["thumbnail_url"]).content)).convert("L"))
    assert shown.max() > 240


def test_the_thumbnail_is_made_once(api: TestClient, settings: Settings) -> None:
    body = made(api, ("a.png", png(1, (900, 30))))
    image = next(pages(api, f"/datasets/{body['dataset']['id']}/images"))
    first = api.get(image["thumbnail_url"]).content
    kept = list(settings.blobs_dir.rglob("*.webp"))
    assert [path.read_bytes() for path in kept] == [first]
    kept[0].write_bytes(b"kept")
    assert api.get(image["thumbnail_url"]).content == b"kept"


def test_a_full_disk_keeps_nobody_from_looking(
    api: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = made(api, ("a.png", png(1)))
    image = next(pages(api, f"/datasets/{body['dataset']['id']}/images"))

    def full(*_: object) -> None:
        raise OSError(ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(SpoolWriter, "write", full)
        shown = api.get(image["thumbnail_url"])
    assert (shown.status_code, shown.headers["content-type"]) == (200, "image/webp")
    assert list(settings.blobs_dir.rglob("*.webp")) == []
    assert spool_is_empty(settings)
    assert api.get(image["thumbnail_url"]).content == shown.content


def test_a_heat_map_means_the_same_in_every_image_and_knows_its_version(
    api: TestClient, sessions: sessionmaker[Session]
) -> None:
    body = made(api, *[(f"{i}.png", png(i)) for i in range(3)])
    image_ids = [image["id"] for image in pages(api, f"/datasets/{body['dataset']['id']}/images")]
    write_version(sessions, body["dataset"]["id"], image_ids[:2], suspects=1)
    maps = [api.get(f"/images/{i}/heatmap?version=1&overlay=false").content for i in image_ids[:2]]
    assert maps[0] == maps[1]
    assert is_problem(api.get(f"/images/{image_ids[2]}/heatmap"), 404, "not-found")
    assert is_problem(api.get(f"/images/{image_ids[0]}/heatmap?version=9"), 404, "not-found")
    for path in ("", "/content", "/thumbnail", "/heatmap"):
        assert is_problem(api.get(f"/images/{uuid4()}{path}"), 404, "not-found")


def test_a_heat_map_before_the_first_version_is_not_found(api: TestClient) -> None:
    body = made(api, ("a.png", png(1)))
    image = next(pages(api, f"/datasets/{body['dataset']['id']}/images"))
    assert is_problem(api.get(f"/images/{image['id']}/heatmap"), 404, "not-found")


def test_a_blob_that_was_lost_is_a_problem_and_not_a_crash(api: TestClient, settings: Settings) -> None:
    body = made(api, ("a.png", png(1)))
    image = next(pages(api, f"/datasets/{body['dataset']['id']}/images"))
    for blob in settings.blobs_dir.rglob("*"):
        if blob.is_file():
            blob.unlink()
    for path in ("content", "thumbnail"):
        assert is_problem(api.get(f"/images/{image['id']}/{path}"), 503, "unavailable")
