"""The service on a bucket instead of a folder: nothing else changes."""

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from siftline.settings import Settings
from siftline.store.blobs_s3 import S3Blobs
from tests.integration.api.conftest import made, png, spool_is_empty


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_images_go_to_the_bucket_and_come_from_there(
    api_with: Callable[..., TestClient], settings: Settings, s3_settings: Settings
) -> None:
    api = api_with(
        s3_bucket=s3_settings.s3_bucket, s3_endpoint=s3_settings.s3_endpoint, s3_prefix=s3_settings.s3_prefix
    )
    bucket = S3Blobs(s3_settings)
    dataset = made(api, ("a.png", png(1)), ("b.png", png(2)))["dataset"]
    assert len(list(bucket.listed("datasets/"))) == 2
    assert spool_is_empty(settings)

    (first, second) = api.get(f"/datasets/{dataset['id']}/images").json()["items"]
    assert api.get(first["content_url"]).content == png(1)
    assert api.get(first["thumbnail_url"]).status_code == 200
    assert len(list(bucket.listed("datasets/"))) == 3
    assert not settings.blobs_dir.exists()

    bucket.delete(f"datasets/{dataset['id']}/{second['sha256']}")
    assert api.get(second["content_url"]).status_code == 503
    assert api.head(second["content_url"]).status_code == 200, "nothing is fetched for the answer's head"
    told = api.get("/readyz").json()["errors"]
    assert [error["loc"] for error in told] == [["worker"]], "the bucket is fine"
