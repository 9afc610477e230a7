"""The client against the real service: every call, on a dataset that is never purified."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from siftline import Client, JobFailed
from siftline.domain.errors import JobStateConflict, NotFound, PurificationNotReady, Unprocessable
from siftline.schemas import DatasetCreated, DatasetOptions, PurifyOptions
from tests.integration.served import serve, some_images

UNPURIFIED = DatasetOptions(purify=False)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the server may read by itself."""
    return some_images(tmp_path_factory.mktemp("source"), range(3))


@pytest.fixture(scope="module")
def client(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("client")
    with (
        serve(folder / "data", SIFTLINE_SOURCE_ROOTS=json.dumps([str(source)])) as served,
        Client(served.url) as client,
    ):
        yield client


@pytest.fixture
def created(client: Client, tmp_path: Path) -> DatasetCreated:
    return client.upload("n", [some_images(tmp_path / "sent", range(4))], UNPURIFIED)


def test_what_was_uploaded_is_there_to_be_read_back(client: Client, created: DatasetCreated) -> None:
    dataset = client.dataset(created.dataset.id)
    assert dataset == created.dataset
    assert dataset in list(client.datasets())
    assert [image.name for image in client.images(dataset.id)] == ["0.png", "1.png", "2.png", "3.png"]
    assert [image.name for image in client.images(dataset.id, name_contains="2")] == ["2.png"]
    assert list(client.receipts(dataset.id)) == created.receipts


def test_an_image_comes_back_as_it_was_sent(client: Client, created: DatasetCreated, tmp_path: Path) -> None:
    image = next(client.images(created.dataset.id))
    assert client.image(image.id) == image
    assert client.image_file(image.id, "content") == (tmp_path / "sent" / image.name).read_bytes()
    assert client.image_file(image.id, "thumbnail")[8:12] == b"WEBP"
    with pytest.raises(NotFound, match="no heat map"):
        client.image_file(image.id, "heatmap")


def test_a_folder_of_the_server_is_taken_in_without_sending_it(client: Client, source: Path) -> None:
    created = client.upload_from("from a folder", source.as_uri(), UNPURIFIED)
    assert created.dataset.images == 3


def test_images_are_added_to_the_dataset_that_is_named(
    client: Client, created: DatasetCreated, tmp_path: Path
) -> None:
    added = client.add(created.dataset.id, [some_images(tmp_path / "more", range(3, 6))])
    assert [receipt.status for receipt in added.receipts] == ["duplicate", "accepted", "accepted"]
    assert added.dataset.images == 6


def test_a_split_that_nobody_asked_for_is_not_ready(client: Client, created: DatasetCreated) -> None:
    with pytest.raises(PurificationNotReady):
        client.purified(created.dataset.id)


def test_a_job_is_asked_for_listed_and_cancelled(client: Client, created: DatasetCreated) -> None:
    job = client.purify(created.dataset.id, PurifyOptions(seed=3))
    assert job.id in [listed.id for listed in client.jobs(created.dataset.id)]
    assert client.cancel(job.id).state in ("cancelling", "cancelled")
    with pytest.raises(JobFailed, match="was cancelled"):
        client.wait(job, timeout_s=60)
    with pytest.raises(JobStateConflict):
        client.cancel(job.id)


def test_what_is_deleted_is_gone(client: Client, created: DatasetCreated) -> None:
    client.delete_dataset(created.dataset.id)
    with pytest.raises(NotFound):
        client.dataset(created.dataset.id)


def test_a_wrong_option_is_refused_with_its_name(client: Client, tmp_path: Path) -> None:
    options = UNPURIFIED.model_copy(update={"subsets": 1})
    with pytest.raises(Unprocessable, match="subsets"):
        client.upload("n", [some_images(tmp_path / "sent", range(1))], options)


def test_a_server_that_has_all_it_needs_is_ready(client: Client) -> None:
    assert set(client.ready().checks.values()) == {"ok"}
