"""What this process counts, and what the database tells, for Prometheus.

Workers answer no requests: what they do stands in the job table, and is read there when somebody asks.
"""

from siftline.metrics.drift import Drift
from siftline.metrics.jobs import JobTable
from siftline.metrics.requests import Requests
from siftline.metrics.service import Metrics

__all__ = ["Drift", "JobTable", "Metrics", "Requests"]
