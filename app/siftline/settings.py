"""Every setting of the service, read once at the edge and passed in."""

import json
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from siftline.domain.jobs import Lane

GIB = 1024**3
MIB = 1024**2
BUCKET = r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
BucketFolder = Annotated[str, Field(pattern=rf"^{BUCKET}(/[^/\x00-\x1f\x7f%?#\\]+)*/?$")]


def _there(secret: SecretStr) -> SecretStr:
    """Without the line end of a file. An empty key would let in whoever sends an empty header."""
    value = secret.get_secret_value().strip()
    if not value:
        raise ValueError("it is set, but empty: give it a value, or unset it")
    if value.upper() == PLACEHOLDER:
        raise ValueError("it is still the example's placeholder: make a secret, openssl rand -hex 32")
    return SecretStr(value)


def _from_json(value: object) -> object:
    """Read here and not by pydantic-settings, whose error for what is no JSON is none of a field."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError('write it as a JSON list, like ["one", "two"]') from None


PLACEHOLDER = "CHANGE-ME"
"""What stands for each secret in deploy/k8s/secret.example.yaml, which anybody can read."""
Secret = Annotated[SecretStr, AfterValidator(_there)]
T = TypeVar("T")
Listed = Annotated[tuple[T, ...], NoDecode, BeforeValidator(_from_json)]


class Settings(BaseSettings):
    """Read from `SIFTLINE_*` environment variables; the defaults are the embedded mode."""

    # A refused setting may be a URL with a password in it: errors name the setting, not the value.
    model_config = SettingsConfigDict(
        env_prefix="SIFTLINE_", frozen=True, extra="forbid", hide_input_in_errors=True
    )

    data_dir: Path = Field(
        Path("siftline-data"), description="Folder for the database, blobs, caches and logs."
    )
    database_url: str | None = Field(
        None,
        repr=False,
        pattern=r"^(sqlite|postgresql\+psycopg)://",
        description="SQLAlchemy URL; default is SQLite in data_dir. PostgreSQL: postgresql+psycopg://…",
    )
    redis_url: str | None = Field(
        None,
        repr=False,
        pattern=r"^rediss?://",
        description="Celery broker. Unset: workers poll the job table (embedded mode).",
    )
    host: str = Field("127.0.0.1", description="Address the API listens on.")
    port: int = Field(8000, ge=0, le=65535, description="Port the API listens on.")
    api_key: Secret | None = Field(
        None, description="Key every request must carry. Without one, only loopback addresses are served."
    )
    secret: Secret | None = Field(
        None,
        description="Signs the page's cookies. Unset: a file in data_dir; API hosts must share one.",
    )
    rate_per_s: float = Field(200.0, gt=0, description="Requests a second that a key may send on and on.")
    rate_burst: int = Field(
        1000, ge=1, description="Requests that a key may send at once; beyond them 429. Per API process."
    )

    waiting_requests: int = Field(
        64, ge=1, description="Requests that may wait for their turn; beyond it they are answered 503."
    )
    waiting_uploads: int = Field(
        32, ge=1, description="Uploads that may wait to be unpacked; beyond it they are answered 503."
    )
    max_request_bytes: int = Field(20 * GIB, gt=0, description="Largest request body.")
    body_silence_s: float = Field(
        30.0, gt=0, description="A body whose sender is silent this long is answered 408."
    )
    body_bytes_per_s: float = Field(
        1000.0, gt=0, description="A body that comes slower than this, after body_silence_s, is answered 408."
    )
    max_file_bytes: int = Field(512 * MIB, gt=0, description="Largest single image, also inside archives.")
    max_image_pixels: int = Field(400_000_000, gt=0, description="Largest decoded image, width × height.")
    max_entries: int = Field(
        100_000, gt=0, description="Most files in one request, archive entries included."
    )
    max_archive_bytes: int = Field(50 * GIB, gt=0, description="Most bytes one archive may unpack to.")
    max_expansion_ratio: float = Field(
        200.0, gt=1, description="Unpacked bytes per packed byte at which an archive is refused as a bomb."
    )
    source_roots: Listed[Path] = Field(
        (), description="Folders (JSON list) that `file://` sources may name; none by default."
    )
    source_buckets: Listed[BucketFolder] = Field(
        (),
        description="Buckets, or `bucket/folder` (JSON list), that `s3://` sources may name; unset: none.",
    )
    max_source_bytes: int = Field(200 * GIB, gt=0, description="Most bytes that a source may hold.")

    s3_bucket: str | None = Field(
        None,
        pattern=rf"^{BUCKET}$",
        description="Keep images in this bucket instead of data_dir; credentials as boto3 finds them.",
    )
    s3_endpoint: str | None = Field(
        None, pattern=r"^https?://[^/@?#]+/?$", description="S3-compatible store to ask; unset: AWS."
    )
    s3_region: str = Field("us-east-1", description="Region of the bucket.")
    s3_prefix: str = Field(
        "", pattern=r"^([A-Za-z0-9_-][A-Za-z0-9._-]*/)*$", description="Folder in the bucket, ending in `/`."
    )

    backbone: str = Field("lite", description="Preset used when a dataset names none.")
    weights_dir: Path | None = Field(
        None, description="Folder with PRESET.safetensors for the large presets."
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where features are extracted.")

    max_artifact_bytes: int = Field(1 * GIB, gt=0, description="Largest single artifact of a detector.")
    score_images: int = Field(
        64, ge=1, description="Most images scored while a request waits; more become a job."
    )
    score_job_images: int = Field(10_000, ge=1, description="Most images of one scoring job.")
    score_queue: int = Field(
        256, ge=1, description="Images that may wait to be scored; beyond it requests are answered 429."
    )
    score_patience_s: float = Field(
        300.0,
        ge=0,
        description="An image not scored after so long: 503, and /healthz is red (0: never).",
    )
    score_memory_bytes: int = Field(
        2 * GIB, gt=0, description="Memory for loaded detectors; the one unused longest goes first."
    )

    lanes: Listed[Lane] = Field(
        (Lane.LIGHT, Lane.HEAVY, Lane.GPU), description="Kinds of jobs (JSON list) this worker takes."
    )
    gpu_backbones: Listed[str] = Field(
        (), description="Backbones (JSON list) whose jobs wait for a worker that serves the lane `gpu`."
    )
    shard_images: int = Field(
        1000, ge=0, description="Idle workers help with a larger set, so many images at a time (0: never)."
    )
    worker_nice: int = Field(
        5, ge=0, le=19, description="How far jobs stand back from the API for processor time (0: not at all)."
    )
    lease_s: float = Field(15.0, gt=0, description="A worker silent this long has lost its job.")
    job_silence_s: float = Field(
        1800.0, ge=0, description="A job without progress for so long is ended and tried again (0: never)."
    )
    poll_s: float = Field(0.3, gt=0, description="How often workers look for jobs and cancel requests.")
    sweep_s: float = Field(5.0, gt=0, description="How often stranded jobs are looked for.")
    gc_s: float = Field(3600.0, ge=0, description="How often garbage is collected (0: never).")
    gc_grace_s: float = Field(
        86_400.0, gt=0, description="Age at which bytes without a row are garbage: longer than any upload."
    )
    answers_kept_s: float = Field(
        7 * 86_400.0, gt=0, description="How long an `Idempotency-Key` gives the same answer again."
    )
    features_max_bytes: int = Field(
        100 * GIB, ge=0, description="Size of the feature cache; what was unused longest goes first."
    )
    work_max_bytes: int = Field(100 * GIB, ge=0, description="Size of the checkpoints of unfinished jobs.")
    max_attempts: int = Field(5, ge=1, description="Times a job is started again after its worker died.")
    cancel_grace_s: float = Field(2.0, gt=0, description="Time a cancelled job has to stop by itself.")
    drain_s: int = Field(5, ge=0, description="Time that requests in hand have when the API is told to stop.")
    log_format: Literal["text", "json"] = Field("text", description="How log lines are written.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="The least important log lines that are written."
    )
    max_wait_s: float = Field(60.0, gt=0, description="Longest `?wait=` a request may ask for.")

    @model_validator(mode="after")
    def _keeps_its_own_images_apart(self) -> Self:
        """A source that holds every workspace's images would hand them to anybody who may make a dataset."""
        own = f"{self.s3_bucket}/{self.s3_prefix}"
        for named in self.source_buckets:
            folder = named.removesuffix("/") + "/"
            if self.s3_bucket is not None and (own.startswith(folder) or folder.startswith(own)):
                told = "SIFTLINE_SOURCE_BUCKETS must not hold the images that SIFTLINE_S3_BUCKET keeps"
                raise ValueError(told)
        return self

    @property
    def sqlalchemy_url(self) -> str:
        """The database the settings name: `database_url`, or SQLite in the data folder."""
        return self.database_url or f"sqlite:///{self.data_dir.resolve() / 'siftline.db'}"

    @property
    def blobs_dir(self) -> Path:
        return self.data_dir / "blobs"

    @property
    def spool_dir(self) -> Path:
        """Uploads in flight; same file system as the blobs so that accepting one is a rename."""
        return self.data_dir / "spool"

    @property
    def features_dir(self) -> Path:
        return self.data_dir / "features"

    @property
    def work_dir(self) -> Path:
        """Checkpoints of running jobs, by content key."""
        return self.data_dir / "work"
