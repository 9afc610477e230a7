"""Scores as JUnit XML, which every CI shows as test results: one test case per image."""

import re
from xml.etree import ElementTree as ET

from siftline.cli.gate import GateReport, Outcome, fails, sentence
from siftline.schemas import RejectedImage

# What XML 1.0 cannot hold, not even escaped.
UNSAYABLE = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(report: GateReport) -> bytes:
    """An image that fails the gate is a failure, a file that is no image is an error."""
    counts = {
        "tests": str(len(report.outcomes)),
        "failures": str(len(report.failures)),
        "errors": str(len(report.rejected)),
    }
    root = ET.Element("testsuites", {"name": "siftline", **counts})
    suite = ET.SubElement(root, "testsuite", {"name": _said(report.detector.name), **counts, "skipped": "0"})
    properties = ET.SubElement(suite, "properties")
    for name, value in _properties(report).items():
        ET.SubElement(properties, "property", {"name": name, "value": _said(str(value))})
    for outcome in report.outcomes:
        _add_case(suite, outcome, report)
    ET.indent(root)
    xml: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return xml + b"\n"


def _add_case(suite: ET.Element, outcome: Outcome, report: GateReport) -> None:
    name = _said(outcome.name)
    group = f"siftline.{report.detector.name.replace('.', '_')}"
    case = ET.SubElement(suite, "testcase", {"classname": _said(group), "name": name, "file": name})
    if isinstance(outcome, RejectedImage):
        error = ET.SubElement(case, "error", {"message": _said(outcome.reason), "type": outcome.code})
        error.text = _said(f"{outcome.name} could not be judged: {outcome.reason}")
    elif fails(outcome, report.fail_on):
        message = sentence(outcome, report)
        failure = ET.SubElement(case, "failure", {"message": message, "type": outcome.verdict})
        failure.text = f"{message}\nsha256 {outcome.sha256}"
    else:
        ET.SubElement(case, "system-out").text = sentence(outcome, report)


def _properties(report: GateReport) -> dict[str, object]:
    return {
        "detector": report.detector.id,
        "method": report.detector.method,
        "purification version": report.detector.version,
        "threshold": report.calibration.threshold,
        "review threshold": report.calibration.review_threshold,
        "fail on": report.fail_on or "nothing",
    }


def _said(text: str) -> str:
    return UNSAYABLE.sub("\N{REPLACEMENT CHARACTER}", text)
