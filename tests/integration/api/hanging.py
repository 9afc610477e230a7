"""`siftline` whose detectors' networks never return: as a deadlock in a library would have it."""

import threading

from siftline.cli import main
from siftline.scoring.network import Network


def hang(*_: object) -> None:
    threading.Event().wait()


Network.__call__ = hang  # type: ignore[assignment, method-assign]  # it never returns
main()
