"""Everything that can go wrong in a way a user is told of.

SiftlineError                  status, code, title: one row of the error table in the API
├── BadRequest            400  unparsable
├── Unauthorized          401
├── Forbidden             403
├── NotFound              404
├── Conflict              409  wrong state
│   ├── JobStateConflict
│   ├── PurificationNotReady
│   └── DetectorNotReady
├── PreconditionFailed    412  somebody was faster
├── TooLarge              413
├── NotAnImage            415
├── Unprocessable         422  well-formed, but makes no sense
├── TooManyRequests       429  with Retry-After
├── WorkerLost            500  a job's worker died once too often
│   └── JobStalled             or the job stood still so often
├── OutOfResources        500  a job needs more memory or disk than there is
├── Unavailable           503  with Retry-After
└── InsufficientStorage   507  a job or a source needs more disk than there is
"""

from typing import ClassVar


class SiftlineError(Exception):
    """An error a user may read: `detail` is written for them, never an exception's text."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str, **extra: object) -> None:
        super().__init__(detail)
        self.detail = detail
        self.extra = extra

    def problem(self) -> dict[str, object]:
        """The RFC 9457 members every problem has, as kept in `job.error`."""
        return {"title": self.title, "status": self.status, "detail": self.detail, "code": self.code}


class BadRequest(SiftlineError):
    status = 400
    code = "bad-request"
    title = "The request could not be parsed"


class Unauthorized(SiftlineError):
    status = 401
    code = "unauthorized"
    title = "A valid API key is needed"


class Forbidden(SiftlineError):
    status = 403
    code = "forbidden"
    title = "This is not allowed"


class NotFound(SiftlineError):
    status = 404
    code = "not-found"
    title = "There is no such thing"


class Conflict(SiftlineError):
    status = 409
    code = "conflict"
    title = "Not possible in the present state"


class JobStateConflict(Conflict):
    code = "job-state-conflict"
    title = "The job's state does not allow this"


class PurificationNotReady(Conflict):
    code = "purification-not-ready"
    title = "The dataset has no finished purification yet"


class DetectorNotReady(Conflict):
    code = "detector-not-ready"
    title = "The detector cannot score"


class PreconditionFailed(SiftlineError):
    status = 412
    code = "precondition-failed"
    title = "Somebody else has changed this since you looked"


class TooLarge(SiftlineError):
    status = 413
    code = "too-large"
    title = "The request is larger than this server accepts"


class NotAnImage(SiftlineError):
    status = 415
    code = "not-an-image"
    title = "The body is not an image that can be read"


class Unprocessable(SiftlineError):
    status = 422
    code = "unprocessable"
    title = "The request makes no sense as it is"


class TooManyRequests(SiftlineError):
    status = 429
    code = "too-many-requests"
    title = "The server is busy"


class Unavailable(SiftlineError):
    status = 503
    code = "unavailable"
    title = "Not available right now"


class WorkerLost(SiftlineError):
    code = "worker-lost"
    title = "The worker died while it ran the job"
    happened: ClassVar[str] = "The worker died or was stopped while it ran this job"


class JobStalled(WorkerLost):
    code = "job-stalled"
    title = "The job stood still"
    happened = "The job made no progress and was ended (its worker's log says where it stood)"


class OutOfResources(SiftlineError):
    code = "out-of-resources"
    title = "The job needs more memory or disk than there is"


class InsufficientStorage(SiftlineError):
    status = 507
    code = "insufficient-storage"
    title = "There is not the disk space for this"
