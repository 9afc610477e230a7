"""Says once that the database is away, and once that it is back: a worker waits for it for ever."""

import logging

from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError

from siftline.settings import Settings

log = logging.getLogger(__name__)

PAUSE_S = 1.0
"""Between attempts, at least."""


class Outage:
    def __init__(self, settings: Settings) -> None:
        self._shown = make_url(settings.sqlalchemy_url).render_as_string()  # without the password
        self._lasts = False

    def goes_on(self, error: DBAPIError) -> None:
        if not self._lasts:
            kind = type(error.orig).__name__
            log.warning(
                "the database %s does not answer (%s): no job begins until it does. See `siftline doctor`.",
                self._shown,
                kind,
            )
        self._lasts = True

    def is_over(self) -> None:
        if self._lasts:
            log.warning("the database answers again")
        self._lasts = False
