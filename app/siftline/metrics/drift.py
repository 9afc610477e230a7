"""Whether what a detector meets now looks like what it was calibrated on.

A p-value is the place of a score among the detector's calibration scores, so on images like those it is
uniform: its mean is one half and its population stability index near 0. PSI = sum over bins of
(share now - share then) * ln(share now / share then); the habit is to look above 0.1 and to act above 0.25
(Siddiqi 2006). Of 500 scores without any drift it is .02 on average (9 degrees of freedom over 500).
"""

from collections import deque
from collections.abc import Iterable, Iterator
from threading import Lock
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

RECENT = 500
FEWEST = 100
BINS = 10
DETECTORS = 200


def stability_index(p_values: NDArray[np.float64], calibration_images: int) -> float:
    """PSI of (n,) p-values against those of images like the calibration's, in at most ten bins.

    A p-value of n calibration images is one of 1/(n+1) … 1, each as likely: with few of them ten bins would
    not have equal shares, so the expected shares are counted and not assumed.
    """
    possible = np.arange(1, calibration_images + 2) / (calibration_images + 1)
    edges = np.linspace(0.0, 1.0, min(BINS, len(possible)) + 1)
    edges[1:] += 1e-9  # a p-value on an edge belongs below it, rounding or not
    then = np.histogram(possible, edges)[0] / len(possible)
    # Half an image in an empty bin: a logarithm of zero would tell nothing.
    now = np.maximum(np.histogram(p_values, edges)[0], 0.5) / len(p_values)
    return float(np.sum((now - then) * np.log(now / then)))


class _Seen:
    def __init__(self, calibration_images: int) -> None:
        self.calibration_images = calibration_images
        self.recent: deque[float] = deque(maxlen=RECENT)
        self.verdicts: dict[str, int] = {}


class Drift(Collector):
    """Of the images this process scored while a request waited; those of scoring jobs are not among them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seen: dict[UUID, _Seen] = {}  # the one unused longest comes first
        self._lock = Lock()
        registry.register(self)

    def scored(self, detector: UUID, calibration_images: int, found: Iterable[tuple[float, str]]) -> None:
        """`found`: p-value and verdict of each image."""
        with self._lock:
            seen = self._seen.pop(detector, None) or _Seen(calibration_images)
            self._seen[detector] = seen
            if len(self._seen) > DETECTORS:
                del self._seen[next(iter(self._seen))]
            for p_value, verdict in found:
                seen.recent.append(p_value)
                seen.verdicts[verdict] = seen.verdicts.get(verdict, 0) + 1

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        images = CounterMetricFamily(
            "siftline_scored_images", "Images scored while a request waited.", labels=["detector", "verdict"]
        )
        mean = GaugeMetricFamily(
            "siftline_score_p_value_mean",
            f"Mean p-value of the last {RECENT} images, from {FEWEST} on; 0.5 without drift.",
            labels=["detector"],
        )
        index = GaugeMetricFamily(
            "siftline_score_stability_index",
            "PSI of these p-values against the calibration's scores; look above 0.1, act above 0.25.",
            labels=["detector"],
        )
        with self._lock:
            for detector, seen in self._seen.items():
                for verdict, count in seen.verdicts.items():
                    images.add_metric([str(detector), verdict], count)
                if len(seen.recent) >= FEWEST:
                    p_values = np.array(seen.recent)
                    mean.add_metric([str(detector)], float(p_values.mean()))
                    index.add_metric([str(detector)], stability_index(p_values, seen.calibration_images))
        yield from (images, mean, index)
