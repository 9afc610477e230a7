"""Siftline: a service that purifies the training sets of visual-inspection models."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from siftline.client import Client as Client
    from siftline.client import JobFailed as JobFailed
    from siftline.domain.errors import SiftlineError as SiftlineError

__version__ = "0.1.0"
__all__ = ["Client", "JobFailed", "SiftlineError", "__version__"]

# Workers and migrations import this package, too: they shall not pay for an HTTP client.
_LAZY = {
    "Client": "siftline.client",
    "JobFailed": "siftline.client",
    "SiftlineError": "siftline.domain.errors",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'siftline' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - only when a name is really asked for

    return getattr(import_module(_LAZY[name]), name)
