"""How every process of ours logs: one line per event on standard error, with the ids of what it is about.

A line names the request it was written for and the job it was written about. A job keeps the id of the
request that asked for it, so that one id finds the lines of both sides.
"""

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

Format = Literal["text", "json"]

_about: ContextVar[dict[str, str]] = ContextVar("siftline_about")
_process: dict[str, str] = {}
"""What everything in this process is about: a job's process has one job, whatever threads it starts."""


def set_up_logging(form: Format = "text", level: int | str = logging.INFO) -> None:
    """Call once, in the program's main; libraries and tests never do."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Json() if form == "json" else _Text())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # FAISS tells at every start which of its builds it did not find, ONNX of every node it did not simplify,
    # Alembic at every /readyz which database it looks at.
    for talkative in ("faiss.loader", "onnx_ir", "onnxscript", "alembic.runtime.migration"):
        logging.getLogger(talkative).setLevel(logging.WARNING)


@contextmanager
def about(**ids: str | None) -> Iterator[None]:
    """Lines written inside carry these ids; None is left out."""
    token = _about.set(_about.get({}) | _given(ids))
    try:
        yield
    finally:
        _about.reset(token)


def process_is_about(**ids: str | None) -> None:
    """As `about`, for this process and all its threads until it ends."""
    _process.update(_given(ids))


def request_id() -> str | None:
    """Of the request that is being answered, if any."""
    return _ids().get("request_id")


def _given(ids: dict[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in ids.items() if value is not None}


def _ids() -> dict[str, str]:
    return _process | _about.get({})


class _Text(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(process)d %(name)s: %(message)s%(about)s")

    def format(self, record: logging.LogRecord) -> str:
        # An id that the message names itself is not said twice.
        message = record.getMessage()
        said = [f"{name}={value}" for name, value in _ids().items() if value not in message]
        record.about = f" [{' '.join(said)}]" if said else ""
        return super().format(record)


class _Json(logging.Formatter):
    """One JSON object a line, for machines that collect them."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, object] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "process": record.process,
            "logger": record.name,
            "message": record.getMessage(),
            **_ids(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)
