"""Everything that succeeded while things broke, once more with nothing broken: the answers must be the same.

Bit for bit: scores, probabilities, verdicts and neighbours of a version; weights, calibration and curve of a
detector. Nothing of the first run is left to take over: its caches are moved away before.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from siftline.settings import Settings
from tests.faults.invariants import Database
from tests.faults.traffic import Caller, Ledger, Over, train

TOLD = (
    *("rank", "score", "p_anomalous", "interval", "verdict", "needs_review", "confidence", "cluster"),
    *("signals", "near_duplicates"),
)
COMPLETE = """
SELECT version FROM purifications p WHERE dataset_id = '{}'
AND (SELECT count(*) FROM purified_items WHERE purification_id = p.id) = {} ORDER BY version LIMIT 1"""


@dataclass
class Repeated:
    """What was asked for again, and waits to be compared."""

    caller: Caller
    versions: list[tuple[str, int, str]] = field(default_factory=list)
    """(dataset, version, job that makes it again)"""
    detectors: list[tuple[str, str, str]] = field(default_factory=list)
    """(detector, its repetition, job)"""

    def ask_again(self, database: Database, ledger: Ledger, most: int) -> None:
        """For the versions that know all images of their dataset, and for the detectors: some of each."""
        for dataset_id in [d for d in ledger.datasets if d not in ledger.deleted][:most]:
            images = len(ledger.datasets[dataset_id])
            for (version,) in database.rows(COMPLETE.format(dataset_id, images)):
                path = f"/datasets/{dataset_id}/purifications"
                job = self.caller.ask("POST", path, fine=(202,), json={}).json()
                self.versions.append((dataset_id, version, self.caller.promised(job)))
        for detector_id, dataset_id, version in ledger.trained[:most]:
            if dataset_id not in ledger.deleted:
                self.detectors.append((detector_id, *train(self.caller, dataset_id, version)))

    def differences(self) -> Iterator[str]:
        """Waits for what was asked again."""
        try:
            yield from self._differences()
        except Over:
            yield "the repetition had no end in time"

    def _differences(self) -> Iterator[str]:
        for dataset_id, version, job_id in self.versions:
            job = self.caller.until_final(job_id)
            if job["state"] != "succeeded":
                yield f"the undisturbed purification of {dataset_id} {job['state']}: {job['error']}"
                continue
            disturbed = self.caller.purified(dataset_id, version)
            if _told(disturbed) != _told(self.caller.purified(dataset_id, job["result"]["version"])):
                yield f"version {version} of {dataset_id} is not what it is when nothing breaks"
        for detector_id, repetition, job_id in self.detectors:
            job = self.caller.until_final(job_id)
            if job["state"] != "succeeded":
                yield f"the undisturbed training of {repetition} {job['state']}: {job['error']}"
            elif self._trained(detector_id) != self._trained(repetition):
                yield f"detector {detector_id} is not what it is when nothing breaks"

    def _trained(self, detector_id: str) -> tuple[bytes, list[float], Any]:
        path = f"/detectors/{detector_id}"
        weights = self.caller.ask("GET", f"{path}/artifacts/model.safetensors").content
        calibration = self.caller.ask("GET", f"{path}/artifacts/calibration.json").json()
        return weights, calibration["scores"], self.caller.ask("GET", path).json()["curve"]


def forget_what_was_computed(settings: Settings) -> None:
    for folder in (settings.features_dir, settings.work_dir):
        if folder.exists():
            folder.rename(folder.with_name(f"disturbed-{folder.name}"))


def _told(version: Mapping[str, Any]) -> Mapping[str, tuple[Any, ...]]:
    return {item["image_id"]: tuple(item[name] for name in TOLD) for item in version["items"]}
