"""Scores as SARIF 2.1.0 (OASIS), which code hosts show beside files: a result per image that is not ok."""

import json
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from siftline import __version__
from siftline.cli.gate import GateReport, sentence
from siftline.schemas import ScoredImage

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
RULES = {
    "defect": ("error", "The image scores above the threshold that good images exceed at the target rate."),
    "review": ("warning", "The image scores in the band that a person should look at."),
}


def sarif(report: GateReport) -> bytes:
    """Defects are errors and images to review are warnings, whatever the gate; unreadable files are noted."""
    run = {
        "tool": {"driver": {"name": "siftline", "semanticVersion": __version__, "rules": _rules()}},
        "automationDetails": {"id": f"siftline/{report.detector.id}/"},
        "invocations": [
            {
                "executionSuccessful": not report.rejected,
                "exitCode": report.exit_code,
                "toolExecutionNotifications": [
                    {
                        "level": "error",
                        "message": {"text": f"{file.name} could not be judged: {file.reason}"},
                        "locations": [_location(file.name)],
                    }
                    for file in sorted(report.rejected, key=lambda file: file.name)
                ],
            }
        ],
        "results": [
            _result(item, report)
            for item in sorted(report.items, key=lambda item: item.name)
            if item.verdict in RULES
        ],
    }
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(log, indent=2, ensure_ascii=False).encode() + b"\n"


def _rules() -> list[dict[str, Any]]:
    return [
        {
            "id": f"siftline/{verdict}",
            "name": verdict.capitalize(),
            "shortDescription": {"text": text},
            "defaultConfiguration": {"level": level},
        }
        for verdict, (level, text) in RULES.items()
    ]


def _result(item: ScoredImage, report: GateReport) -> dict[str, Any]:
    return {
        "ruleId": f"siftline/{item.verdict}",
        "ruleIndex": list(RULES).index(item.verdict),
        "level": RULES[item.verdict][0],
        "message": {"text": sentence(item, report)},
        "locations": [_location(item.name)],
        "partialFingerprints": {"imageSha256/v1": item.sha256},
        "properties": {"score": item.score, "pValue": item.p_value, "threshold": item.threshold},
    }


def _location(name: str) -> dict[str, Any]:
    path = PurePosixPath(name)
    uri = "file://" + quote(name) if path.is_absolute() else quote(name)
    # GitHub shows no result without a line, not even of a picture.
    return {"physicalLocation": {"artifactLocation": {"uri": uri}, "region": {"startLine": 1}}}
