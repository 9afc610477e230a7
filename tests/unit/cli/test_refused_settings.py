"""Who starts a program with a wrong setting reads which variable to mend."""

import pytest

from siftline.cli.servers import settings_from
from siftline.domain.errors import Unprocessable
from siftline.domain.jobs import Lane

JSON_LISTS = ("SIFTLINE_SOURCE_ROOTS", "SIFTLINE_SOURCE_BUCKETS", "SIFTLINE_LANES", "SIFTLINE_GPU_BACKBONES")


@pytest.mark.parametrize("name", JSON_LISTS)
@pytest.mark.parametrize("value", ["heavy", "", "[heavy]"])
def test_a_list_that_is_no_json_is_told_by_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(Unprocessable, match=f"^{name}: write it as a JSON list"):
        settings_from()


def test_a_list_that_is_json_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIFTLINE_LANES", '["heavy", "gpu"]')
    assert settings_from().lanes == (Lane.HEAVY, Lane.GPU)


def test_settings_that_do_not_go_together_are_both_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIFTLINE_SOURCE_BUCKETS", '["all-images/ours"]')
    monkeypatch.setenv("SIFTLINE_S3_BUCKET", "all-images")
    with pytest.raises(Unprocessable, match=r"^SIFTLINE_SOURCE_BUCKETS must .* SIFTLINE_S3_BUCKET keeps$"):
        settings_from()
