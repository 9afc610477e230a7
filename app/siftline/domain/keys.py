"""What an API key looks like, what is kept of it, and how the workspace is called that it opens."""

import hashlib
import secrets

PREFIX = "sl_"  # so that secret scanners can know one when they see it
DEFAULT_WORKSPACE = "default"
WORKSPACE_LENGTH = 64
WORKSPACE_PATTERN = r"^[a-z0-9][a-z0-9._-]*$"


def new_key() -> str:
    """256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def hash_of(key: str) -> str:
    """Hex SHA-256, unsalted and fast: nobody guesses 256 random bits, however cheap a guess is."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
