"""A connection to the one S3-compatible store that the settings name. Needs the extra `s3` (boto3).

No other address is ever asked: callers name buckets and keys, never hosts; a bucket goes into the path where
an endpoint is set, and what the store answers with a redirect is an error. Credentials come from where boto3
looks (AWS_ACCESS_KEY_ID, a role).
"""

from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from siftline.settings import Settings

CONNECTIONS = 32


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a silent store is waited for, and how often it is asked again in all."""

    connect_s: float = 5.0
    read_s: float = 60.0
    attempts: int = 5


PATIENT = Patience()
HASTY = Patience(connect_s=2.0, read_s=2.0, attempts=1)
"""For somebody who wants to know whether it is there."""


def connect(settings: Settings, patience: Patience = PATIENT) -> Any:
    """A thread-safe client of boto3 (which has no types); the caller closes it."""
    # A bucket in the host name needs a DNS entry each, which few stores of one's own have.
    style = "auto" if settings.s3_endpoint is None else "path"
    return boto3.client(
        "s3",
        endpoint_url=settings.s3_endpoint,
        region_name=settings.s3_region,
        config=Config(
            connect_timeout=patience.connect_s,
            read_timeout=patience.read_s,
            retries={"mode": "standard", "total_max_attempts": patience.attempts},
            max_pool_connections=CONNECTIONS,
            s3={"addressing_style": style},
            # Newer checksums that other makers' stores refuse; every image has its SHA-256 in its key.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


def code_of(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def status_of(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
