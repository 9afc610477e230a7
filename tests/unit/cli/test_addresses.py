"""A server's address and a key that can be neither are said to be so before anything is sent."""

import pytest

from siftline import Client
from siftline.domain.errors import Unauthorized, Unprocessable
from tests.integration.commands import run


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "siftline.example", "ftp://siftline.example", "http:/127.0.0.1"]
)
def test_what_is_no_address_of_a_server_is_a_mistake_in_use_and_not_a_server_out_of_reach(url: str) -> None:
    answer = run("jobs", "--url", url)
    assert answer.returncode == 2
    assert answer.stderr.strip().startswith("Error:")
    assert "is no address of a server" in answer.stderr
    with pytest.raises(Unprocessable, match="One is written like http://"):
        Client(url)


@pytest.mark.parametrize("key", ["kéy", "a\nb", "“abc”"])
def test_a_key_that_no_header_can_carry_is_a_wrong_key(key: str) -> None:
    answer = run("jobs", "--api-key", key)
    assert answer.returncode == 2
    assert "holds characters that no key has" in answer.stderr
    with pytest.raises(Unauthorized):
        Client("http://127.0.0.1:9", key)
