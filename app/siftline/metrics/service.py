"""All figures of the service in one registry of its own: two applications in one process do not mix."""

from uuid import UUID

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector
from prometheus_client.exposition import choose_encoder
from sqlalchemy.orm import Session, sessionmaker

from siftline.metrics.drift import Drift
from siftline.metrics.jobs import JobTable
from siftline.metrics.requests import Requests
from siftline.scoring.line import ScoringLine
from siftline.scoring.models import DetectorModels

OwnDetector = tuple[str, UUID]


class Metrics:
    def __init__(self, sessions: sessionmaker[Session], lease_s: float) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self.requests = Requests(self._registry)
        self.drift = Drift(self._registry)
        self.jobs = JobTable(self._registry, sessions, lease_s)

    def watch_scoring(self, line: ScoringLine, models: DetectorModels[OwnDetector]) -> None:
        """Figures that are read from their owners when somebody asks."""
        for name, told, read in (
            ("siftline_scoring_waiting_images", "Images in line to be scored.", lambda: line.waiting),
            ("siftline_scoring_most_waiting_images", "Beyond it: 429.", lambda: line.most_waiting),
            ("siftline_scoring_image_seconds", "One image, lately.", lambda: line.image_s),
            ("siftline_scoring_stuck_images", "Given up; their threads hang.", lambda: line.stuck),
            ("siftline_detectors_loaded", "Detectors in memory.", lambda: len(models.loaded)),
            ("siftline_detectors_memory_bytes", "What they take.", lambda: models.memory_bytes),
        ):
            Gauge(name, told, registry=self._registry).set_function(read)

    def written(self, accept: str) -> tuple[bytes, str]:
        """All of it in the format that `accept` asks for, and that format's media type. Asks the database."""
        encode, media_type = choose_encoder(accept)
        return encode(self._registry), media_type
