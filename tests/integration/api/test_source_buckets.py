"""Images that the server fetches from a bucket: only from where the operator allows, only from one store."""

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError

from siftline.settings import Settings
from siftline.store import source_bucket
from siftline.store.source_bucket import SourceBucket
from tests.integration.api.conftest import is_problem, png, spool_is_empty, statuses, zipped
from tests.integration.api.stores import Store, answer

Start = Callable[..., TestClient]


@pytest.fixture
def database_url(sqlite_template: Path, tmp_path: Path) -> str:
    """One of the two is enough here."""
    return f"sqlite:///{shutil.copyfile(sqlite_template, tmp_path / 'siftline.db')}"


@pytest.fixture
def bucket(s3_settings: Settings) -> str:
    """An empty bucket, at the store that the settings name."""
    assert s3_settings.s3_bucket is not None
    return s3_settings.s3_bucket


@pytest.fixture
def s3(s3_endpoint: str, bucket: str) -> Iterator[Any]:
    with closing(boto3.client("s3", endpoint_url=s3_endpoint, region_name="us-east-1")) as client:
        yield client


@pytest.fixture
def put(s3: Any, bucket: str) -> Callable[..., None]:
    def put(**objects: bytes) -> None:
        for key, body in objects.items():
            s3.put_object(Bucket=bucket, Key=key, Body=body)

    return put


@pytest.fixture
def api(api_with: Start, s3_endpoint: str, bucket: str) -> TestClient:
    return api_with(s3_endpoint=s3_endpoint, source_buckets=(f"{bucket}/line",))


def from_source(api: TestClient, uri: str, **headers: str) -> Any:
    body = {"name": "x", "source": {"uri": uri}, "options": {"purify": False}}
    return api.post("/datasets", json=body, headers=headers)


def test_a_folder_of_a_bucket_goes_the_way_of_an_upload(
    api: TestClient, settings: Settings, bucket: str, put: Callable[..., None]
) -> None:
    archive = zipped(("in the archive.png", png(3)), ("../out.png", png(4)))
    put(
        **{
            "line/day 1/b.png": png(2),
            "line/day 1/a ü.png": png(1),
            "line/day 1/broken.png": png(1)[:40],
            "line/day 1/empty.png": b"",
            "line/day 1/more.zip": archive,
            "line/day 1/deeper/.hidden.png": png(5),
            "line/day 1/deeper/c.png": png(6),
            "line/day 10/no.png": png(7),
            "line/day 1": png(8),
        }
    )
    body = from_source(api, f"s3://{bucket}/line/day 1/").json()
    assert statuses(body) == [
        ("a ü.png", "accepted", None),
        ("b.png", "accepted", None),
        ("broken.png", "rejected", "unreadable-image"),
        ("deeper/c.png", "accepted", None),
        ("empty.png", "rejected", "empty-file"),
        ("in the archive.png", "accepted", None),
        ("../out.png", "rejected", "unsafe-path"),
    ]
    assert spool_is_empty(settings)
    for one in (f"s3://{bucket}/line/day 1", f"s3://{bucket}/line/day 10/no.png"):
        assert [status for _, status, _ in statuses(from_source(api, one).json())] == ["accepted"]


FORBIDDEN = ("/secret/x", "/line-evil/x", "/lin", "-evil/line/x", ".evil/line/x")
NO_PLACE = (
    *("/line/../secret", "/line/./x", "/line//x", "/line/%2e%2e/secret", "/line%2Fx", "/line/..\\secret"),
    *("/line/x?versionId=1", "/line/x#y", "/", "//", "", "/line/nothing"),
)


def test_nothing_outside_of_what_the_operator_lists_is_asked_for(
    api: TestClient, bucket: str, put: Callable[..., None]
) -> None:
    put(**{"secret/x": png(1), "line-evil/x": png(1), "x": png(1), "line/x": png(1)})
    for status, places in ((403, FORBIDDEN), (422, NO_PLACE)):
        for place in places:
            answer = from_source(api, f"s3://{bucket}{place}")
            assert answer.status_code == status, (place, answer.text)


def test_a_source_names_no_host(api: TestClient) -> None:
    for uri in (
        "s3://127.0.0.1:9000/line/x",
        "s3://user:secret@bucket/line/x",
        "s3://bucket@evil.example/line/x",
        "s3://arn:aws:s3:us-east-1:1:accesspoint/evil/line",
        "s3://BUCKET/line/x",
        "s3:///line/x",
        "s3:line/x",
        "s3+http://evil.example/line",
        "http://evil.example/line",
        "s3://bucket\n/line",
    ):
        assert is_problem(from_source(api, uri), 422, "validation-error"), uri
    assert is_problem(from_source(api, "s3://169.254.169.254/latest/meta-data"), 403, "forbidden")


def test_no_bucket_is_read_unless_one_is_listed(api_with: Start, s3_endpoint: str, bucket: str) -> None:
    api = api_with(s3_endpoint=s3_endpoint)
    assert is_problem(from_source(api, f"s3://{bucket}/line/x"), 403, "forbidden")


def test_an_object_with_dots_for_a_folder_does_not_lead_to_another_ones_bytes(
    api: TestClient, bucket: str, put: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(**{"secret/x.png": png(1), "line/ok.png": png(2)})
    listed = [source_bucket.Object("line/../secret/x.png", len(png(1)), '"x"')]
    really = SourceBucket.listed
    monkeypatch.setattr(SourceBucket, "listed", lambda *a: [*really(*a), *listed])
    assert statuses(from_source(api, f"s3://{bucket}/line/").json()) == [
        ("ok.png", "accepted", None),
        ("../secret/x.png", "rejected", "unsafe-path"),
    ]


def test_objects_that_vanish_or_change_while_they_are_read_have_receipts(
    api: TestClient, bucket: str, s3: Any, put: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(**{"line/a.png": png(1), "line/b.png": png(2), "line/c.png": png(3)})
    really = SourceBucket.listed

    def listed(*asked: Any) -> Iterator[Any]:
        yield from list(really(*asked))
        s3.delete_object(Bucket=bucket, Key="line/a.png")
        put(**{"line/b.png": png(4)})

    monkeypatch.setattr(SourceBucket, "listed", listed)
    assert statuses(from_source(api, f"s3://{bucket}/line/").json()) == [
        ("a.png", "rejected", "missing-object"),
        ("b.png", "rejected", "changed-object"),
        ("c.png", "accepted", None),
    ]


def test_what_is_too_much_is_refused_before_an_object_is_read(
    api_with: Start,
    s3_endpoint: str,
    bucket: str,
    put: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put(**{f"line/{i}.png": png(i) for i in range(3)}, **{"line/big.bin": b"x" * 5000})
    common: dict[str, Any] = {"s3_endpoint": s3_endpoint, "source_buckets": (bucket,)}
    uri = f"s3://{bucket}/line"
    told = statuses(from_source(api_with(**common, max_file_bytes=4000), uri).json())
    assert ("big.bin", "rejected", "file-too-large") in told
    monkeypatch.setattr(SourceBucket, "chunks", None)
    many = from_source(api_with(**common, max_entries=2), uri)
    assert is_problem(many, 422, "unprocessable")
    assert "more than 2 files" in many.json()["detail"]
    large = from_source(api_with(**common, max_source_bytes=5100), uri)
    assert is_problem(large, 422, "unprocessable")
    assert "at most 5100" in large.json()["detail"]
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 100}))
    assert is_problem(from_source(api_with(**common), uri), 507, "insufficient-storage")


def test_a_listing_of_many_pages_is_read_to_its_end(
    s3_settings: Settings, bucket: str, put: Callable[..., None], s3: Any
) -> None:
    put(**{f"line/{i:02}": b"" for i in range(7)})
    with SourceBucket(s3_settings, bucket) as source:
        asked = []

        def in_threes(params: dict[str, Any], **_: Any) -> dict[str, Any]:
            asked.append(params)
            return params | {"MaxKeys": 3}

        source._client.meta.events.register("provide-client-params.s3.ListObjectsV2", in_threes)
        assert [found.key for found in source.listed("line/")] == [f"line/{i:02}" for i in range(7)]
    assert len(asked) == 3


def test_a_store_that_redirects_is_not_followed(api_with: Start, s3_settings: Settings) -> None:
    statuses = iter((301, 302, 307, 308))
    with Store(lambda asked: answer(asked, 200, png(1))) as elsewhere:

        def redirect(asked: Any) -> None:
            there = {"Location": f"{elsewhere.url}/b/line/x", "x-amz-bucket-region": "eu-west-1"}
            answer(asked, next(statuses, 308), b"<Error><Code>PermanentRedirect</Code></Error>", **there)

        with Store(redirect) as store:
            api = api_with(s3_endpoint=store.url, source_buckets=("bucket",))
            for place in ("x", "x", "x/", "x/"):
                assert is_problem(from_source(api, f"s3://bucket/line/{place}"), 422, "unprocessable")
            assert len(store.asked) >= 4
        assert elsewhere.asked == []


def test_a_download_that_is_cut_off_goes_on_where_it_was(
    s3_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_bucket, "PAUSE_S", 0)
    data = bytes(range(256)) * 40

    def cut(handler: Any) -> None:
        start = int(handler.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(data) - start))
        handler.end_headers()
        handler.wfile.write(data[start : start + 4000])
        handler.close_connection = True

    with Store(cut) as store:
        settings = s3_settings.model_copy(update={"s3_endpoint": store.url})
        with SourceBucket(settings, "bucket") as bucket:
            found = source_bucket.Object("line/x", len(data), '"v"')
            assert b"".join(bucket.chunks(found)) == data
        assert [headers.get("Range") for _, headers in store.asked] == [None, "bytes=4000-", "bytes=8000-"]
        assert {headers["If-Match"] for _, headers in store.asked} == {'"v"'}


def test_a_store_in_trouble_is_a_clear_answer_and_no_secret_is_told(
    api_with: Start, settings: Settings, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "an-access-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-key")
    monkeypatch.setattr("time.sleep", lambda _: None)  # between botocore's attempts
    caplog.set_level(logging.DEBUG, "siftline")
    for status, code, tries, problem in (
        (503, "SlowDown", 5, (503, "unavailable")),
        (404, "NoSuchBucket", 1, (422, "unprocessable")),
        (403, "InvalidAccessKeyId", 1, (422, "unprocessable")),
    ):
        told = f"<Error><Code>{code}</Code><Message>an-access-key</Message></Error>".encode()
        with Store(partial(answer, status=status, body=told)) as store:
            api = api_with(s3_endpoint=store.url, source_buckets=("bucket",))
            given = from_source(api, "s3://bucket/line/")
            assert is_problem(given, *problem)
            assert len(store.asked) == tries
        for text in (given.text, caplog.text):
            assert "an-access-key" not in text
            assert "a-secret-key" not in text
        assert code in caplog.text
    assert spool_is_empty(settings)


def test_without_credentials_or_a_store_the_answer_says_so(
    api_with: Start, s3_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    away = api_with(s3_endpoint="http://127.0.0.1:1", source_buckets=("bucket",))
    answer = from_source(away, "s3://bucket/line/x")
    assert is_problem(answer, 503, "unavailable")
    assert answer.headers["retry-after"] == "30"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    assert "credentials" in from_source(away, "s3://bucket/line/x").json()["detail"]


def test_a_request_that_is_sent_again_gets_its_answer_though_the_source_is_gone(
    api: TestClient, bucket: str, s3: Any, put: Callable[..., None]
) -> None:
    put(**{"line/a.png": png(1)})
    first = from_source(api, f"s3://{bucket}/line", **{"Idempotency-Key": "k"})
    s3.delete_object(Bucket=bucket, Key="line/a.png")
    assert from_source(api, f"s3://{bucket}/line", **{"Idempotency-Key": "k"}).json() == first.json()
    assert is_problem(from_source(api, f"s3://{bucket}/line"), 422, "unprocessable")


def test_the_service_refuses_to_offer_its_own_images_as_a_source() -> None:
    for folder, prefix in (("own", "i/"), ("own/i/", "i/"), ("own/i/datasets", "i/"), ("own/x", "")):
        with pytest.raises(ValidationError, match="must not hold"):
            Settings(s3_bucket="own", s3_prefix=prefix, source_buckets=(folder,))
    Settings(s3_bucket="own", s3_prefix="i/", source_buckets=("own/line", "own-line"))
