"""The fault bench, short: one line while everything is killed. The long one: `python -m tests.faults`."""

from pathlib import Path

import pytest

from tests.faults.bench import Plan, run

SHORT = Plan(
    seed=4,
    kills=6,
    minutes=0.2,
    callers=1,
    trouble_every_s=4.0,
    lease_s=2.0,
    patience_s=400.0,
    lines=1,
    trains=False,
)


@pytest.mark.timeout(900)  # some 60 s of processor time, which a busy machine gives in many minutes
def test_whatever_is_killed_every_promise_is_kept_and_every_answer_is_the_same(tmp_path: Path) -> None:
    report = run(tmp_path, SHORT, own_disk=False)
    assert report.broken == []
    assert report.faults.total() > SHORT.kills
    assert report.facts["versions compared"] == 1
