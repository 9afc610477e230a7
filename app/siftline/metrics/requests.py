"""How many requests, how they ended, how long they took."""

from prometheus_client import CollectorRegistry, Counter, Histogram

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
NO_ROUTE = "none"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0)


class Requests:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._total = Counter(
            "siftline_requests",
            "Requests answered, by route template.",
            ["method", "route", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "siftline_request_seconds",
            "From the request's first byte to the answer's last.",
            ["method", "route"],
            buckets=SECONDS,
            registry=registry,
        )

    def answered(self, method: str, route: str | None, status: int, seconds: float) -> None:
        # What callers make up must not become a label: there would be no end of them.
        known = method if method in METHODS else "other"
        self._total.labels(known, route or NO_ROUTE, str(status)).inc()
        self._seconds.labels(known, route or NO_ROUTE).observe(seconds)
