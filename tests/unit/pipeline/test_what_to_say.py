"""What a user is told of an exception nobody expected."""

import errno
import os

import pytest
from safetensors import SafetensorError

from siftline_workers.child import what_to_say_of


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
        # As safetensors 0.8 says it of a file system without a free block.
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_told_as_such_whoever_met_it(error: Exception) -> None:
    assert what_to_say_of(error).code == "out-of-resources"


def test_an_error_of_ours_keeps_its_words_to_the_log() -> None:
    told = what_to_say_of(KeyError("postgresql://user:secret@host"))
    assert told.code == "internal-error"
    assert "secret" not in told.detail
