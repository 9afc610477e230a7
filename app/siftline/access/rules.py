"""Which role each route needs. A route that is not named here is closed to everybody but admins.

Read is for viewers, decisions for reviewers, work for operators; to delete and to make keys takes an admin.
"""

from collections.abc import Mapping

from fastapi import Request

from siftline.access.gate import is_open
from siftline.access.principal import Principal, Role
from siftline.domain.errors import Forbidden

RULES: Mapping[tuple[str, str], Role] = {
    ("POST", "/datasets"): Role.OPERATOR,
    ("DELETE", "/datasets/{dataset_id}"): Role.ADMIN,
    ("POST", "/datasets/{dataset_id}/images"): Role.OPERATOR,
    ("POST", "/datasets/{dataset_id}/misses"): Role.REVIEWER,
    ("POST", "/datasets/{dataset_id}/purifications"): Role.OPERATOR,
    ("POST", "/datasets/{dataset_id}/recut"): Role.REVIEWER,
    ("POST", "/datasets/{dataset_id}/reviews"): Role.REVIEWER,
    ("POST", "/datasets/{dataset_id}/reviews/undo"): Role.REVIEWER,
    ("POST", "/detectors"): Role.OPERATOR,
    ("DELETE", "/detectors/{detector_id}"): Role.ADMIN,
    ("POST", "/detectors/{detector_id}/score"): Role.OPERATOR,
    ("POST", "/jobs/{job_id}/cancel"): Role.OPERATOR,
    ("GET", "/audit"): Role.ADMIN,
    ("GET", "/keys"): Role.ADMIN,
    ("GET", "/metrics"): Role.VIEWER,  # and of the workspace that runs the installation: see the route
    ("POST", "/keys"): Role.ADMIN,
    ("DELETE", "/keys/{key_id}"): Role.ADMIN,
    ("POST", "/keys/{key_id}/rotate"): Role.ADMIN,
    ("POST", "/signout"): Role.VIEWER,
}


def needed(method: str, path: str) -> Role:
    """The role that a method on a route's path template takes."""
    if (rule := RULES.get((method, path))) is not None:
        return rule
    return Role.VIEWER if method in ("GET", "HEAD") else Role.ADMIN


async def authorize(request: Request) -> None:
    """A dependency of the whole application. Raises Forbidden."""
    path = request.scope["route"].path_format
    if is_open(path):
        return
    principal: Principal = request.scope["state"]["principal"]
    role = needed(request.method, path)
    if principal.role < role:
        mine, wanted = principal.role.name.lower(), role.name.lower()
        raise Forbidden(f"This takes the role {wanted}; the key {principal.name!r} has {mine}.")
