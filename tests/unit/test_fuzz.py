"""Damaged and hostile images and archives are refused with a reason, whatever the damage is."""

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from siftline.store.spool import Spool, SpoolFolder
from tests import fuzzing
from tests.fuzzing import Step

WHICH = st.integers(0, 999)
SHARE = st.floats(0, 1, exclude_max=True)
STEP = st.builds(Step, st.sampled_from(fuzzing.KINDS), SHARE, SHARE, st.integers(0, 2**16))
STEPS = st.lists(STEP, min_size=1, max_size=6)
some = settings(max_examples=250, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def pick(seeds: Sequence[bytes], which: int) -> bytes:
    return seeds[which % len(seeds)]


@some
@given(which=WHICH, steps=STEPS, repaired=st.booleans())
def test_an_image_is_decoded_as_it_was_described_or_refused(
    which: int, steps: list[Step], repaired: bool
) -> None:
    data = fuzzing.changed(pick(fuzzing.images(), which), steps, fuzzing.images())
    fuzzing.judge_image(fuzzing.with_right_checksums(data) if repaired else data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SpoolFolder]:
    spool = Spool(tmp_path_factory.mktemp("spool") / "spool")
    spool.open()
    with spool.folder() as folder:
        yield folder
    spool.close()


@some
@given(which=WHICH, steps=STEPS, gzipped=st.booleans())
def test_an_archive_gives_files_in_the_spool_and_refusals_and_nothing_else(
    folder: SpoolFolder, which: int, steps: list[Step], gzipped: bool
) -> None:
    data = fuzzing.changed(pick(fuzzing.archives(), which), steps, fuzzing.archives())
    fuzzing.judge_archive(fuzzing.packed(data, gzipped=gzipped), folder)


def test_what_is_not_damaged_is_taken(folder: SpoolFolder) -> None:
    assert {fuzzing.judge_image(data) for data in fuzzing.images()} == {"accepted", "animated-image"}
    for gzipped in (False, True):
        found = {
            fuzzing.judge_archive(fuzzing.packed(a, gzipped=gzipped), folder) for a in fuzzing.archives()
        }
        assert found == {"whole"}
