"""Which blob store the settings name."""

from importlib.util import find_spec

from siftline.domain.errors import Unprocessable
from siftline.settings import Settings
from siftline.store.blobs import Blobs
from siftline.store.blobs_local import LocalBlobs


def open_blobs(settings: Settings, *, hasty: bool = False) -> Blobs:
    """A bucket if one is set, else the data folder. Raises Unprocessable when boto3 is missing.

    `hasty`: a bucket that does not answer is given up after seconds instead of minutes.
    """
    if settings.s3_bucket is None:
        return LocalBlobs(settings.blobs_dir)
    if find_spec("boto3") is None:
        raise Unprocessable("SIFTLINE_S3_BUCKET needs boto3: pip install 'siftline[s3]'.")
    from siftline.store import s3  # noqa: PLC0415 - an extra
    from siftline.store.blobs_s3 import S3Blobs  # noqa: PLC0415 - an extra

    return S3Blobs(settings, s3.HASTY if hasty else s3.PATIENT)
