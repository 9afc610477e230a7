"""From a shown key, or a cookie made from one, to who it is.

What the database says of a key is believed for a few seconds, so that a scoring request costs no query: a
revoked or rotated key opens nothing any more `BELIEVED_S` later.
"""

import hmac
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from uuid import UUID

from itsdangerous import BadSignature, URLSafeTimedSerializer
from sqlalchemy.orm import Session, sessionmaker

from siftline.access.principal import SETTINGS_KEY, Principal, Role
from siftline.domain.keys import hash_of
from siftline.settings import Settings
from siftline.store import keys
from siftline.store.models import ApiKey
from siftline.store.session import reading, transaction

BELIEVED_S = 5.0
USED_EVERY_S = 60.0
SESSION_S = 12 * 3600
REMEMBERED = 10_000
OF_SETTINGS = "settings"
"""Stands in a cookie for the key of the settings, which has no row."""
MARK = 16
"""Hex digits of a key's hash that a cookie carries: another key ends the sessions of the one before."""


@dataclass(frozen=True, slots=True)
class _Known:
    principal: Principal | None
    until: float


class Keyring:
    """Thread-safe. Call it from a thread unless it `believes`: it may ask the database."""

    def __init__(self, settings: Settings, sessions: sessionmaker[Session]) -> None:
        self._sessions = sessions
        self._master = None if settings.api_key is None else hash_of(settings.api_key.get_secret_value())
        self._signer = URLSafeTimedSerializer(_secret(settings), salt="siftline-session")
        self._known: dict[str, _Known] = {}
        self._used: dict[UUID, float] = {}
        self._lock = Lock()
        self._needed, self._needed_until = self._master is not None, 0.0

    def is_needed(self) -> bool:
        """Whether anybody must show a key: there is one in the settings or a valid one in the database."""
        if self._master is None and self._needed_until < time.monotonic():
            with reading(self._sessions) as session:
                self._needed = keys.count_valid(session) > 0
            self._needed_until = time.monotonic() + BELIEVED_S
        return self._needed

    def believes(self, key: str | None) -> bool:
        """Whether a request that shows this key, or none, can be judged without asking the database."""
        at = time.monotonic()
        if self._master is None and self._needed_until < at:
            return False
        if not self._needed:
            return True
        if key is None:
            return False
        digest = hash_of(key)
        if self._master is not None and hmac.compare_digest(digest, self._master):
            return True
        known = self._known.get(f"key:{digest}")
        return known is not None and known.until >= at

    def holder_of(self, key: str) -> Principal | None:
        """Who holds a key; None when nobody does."""
        digest = hash_of(key)
        if self._master is not None and hmac.compare_digest(digest, self._master):
            return SETTINGS_KEY
        return self._asked(f"key:{digest}", lambda session: keys.valid_by_sha256(session, digest))

    def cookie_for(self, key: str) -> str | None:
        """A signed cookie that stands for the key for some hours and never holds it; None for a wrong key."""
        digest = hash_of(key)
        if self._master is not None and hmac.compare_digest(digest, self._master):
            return self._signer.dumps([OF_SETTINGS, digest[:MARK]])
        with reading(self._sessions) as session:
            found = keys.valid_by_sha256(session, digest)
            return None if found is None else self._signer.dumps([str(found.id), digest[:MARK]])

    def holder_of_cookie(self, cookie: str) -> Principal | None:
        """Who signed in; None for a forged or old cookie and for a key revoked or rotated since."""
        try:
            name, mark = self._signer.loads(cookie, max_age=SESSION_S)
        except (BadSignature, ValueError, TypeError):
            return None
        if len(mark) != MARK:
            return None
        if name == OF_SETTINGS:  # another key in the settings ends the sessions of the one before
            same = self._master is not None and hmac.compare_digest(mark, self._master[:MARK])
            return SETTINGS_KEY if same else None
        question = f"id:{name}:{mark}"
        return self._asked(question, lambda session: keys.valid_by_id(session, UUID(name), mark))

    def forget(self) -> None:
        """Ask the database again: a key was made or revoked here."""
        with self._lock:
            self._known.clear()
            self._needed_until = 0.0

    def _asked(self, question: str, ask: Callable[[Session], ApiKey | None]) -> Principal | None:
        at = time.monotonic()
        known = self._known.get(question)
        if known is not None and known.until >= at:
            return known.principal
        with transaction(self._sessions) as session:
            key = ask(session)
            principal = None if key is None else _principal(key)
            if key is not None and self._used.get(key.id, 0.0) + USED_EVERY_S < at:
                self._used[key.id] = at
                keys.mark_used(session, key.id)
        with self._lock:
            if len(self._known) >= REMEMBERED:  # somebody is guessing
                self._known.clear()
            self._known[question] = _Known(principal, at + BELIEVED_S)
        return principal


def _principal(key: ApiKey) -> Principal:
    return Principal(key.name, Role[key.role.upper()], key.workspace)


def _secret(settings: Settings) -> str:
    """What cookies are signed with: the setting, or a file that the first start makes."""
    if settings.secret is not None:
        return settings.secret.get_secret_value()
    path = settings.data_dir / "cookie-secret"
    if not path.exists():  # only the first start needs room on the disk
        _make_secret(path)
    return path.read_text()


def _make_secret(path: Path) -> None:
    mine = Path(f"{path}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        mine.touch(mode=0o600)
        mine.write_text(secrets.token_urlsafe(32))
        os.link(mine, path)  # of two processes that start at once, the first one's secret counts
    except FileExistsError:
        pass
    finally:
        mine.unlink(missing_ok=True)
