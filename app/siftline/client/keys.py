"""API keys: made, listed, rotated, revoked; the log of what was done with them."""

from collections.abc import Iterator, Sequence
from uuid import UUID

from pydantic import RootModel

from siftline.client.calls import Calls
from siftline.client.connection import parsed
from siftline.schemas import AuditEntry, Key, KeyCreated, NewKey, Page, RoleName, RotateKey


class KeyCalls(Calls):
    def create_key(self, name: str, role: RoleName, workspace: str | None = None) -> KeyCreated:
        """Make a key, by default of the own workspace; it is shown in this answer and never again.

        With the first, the door closes.
        """
        body = NewKey(name=name, role=role, workspace=workspace)
        return parsed(KeyCreated, self._connection.send("POST", "/keys", body=body, twice=False))

    def keys(self) -> Sequence[Key]:
        """Newest first, revoked ones too; never the keys themselves."""
        return self._connection.get("/keys", RootModel[list[Key]]).root

    def rotate_key(self, key_id: UUID, grace_s: float = 0) -> KeyCreated:
        """Another secret under the same name; the old one opens for `grace_s` more."""
        body = RotateKey(grace_s=grace_s)
        return parsed(
            KeyCreated, self._connection.send("POST", f"/keys/{key_id}/rotate", body=body, twice=False)
        )

    def revoke_key(self, key_id: UUID) -> None:
        self._connection.send("DELETE", f"/keys/{key_id}")

    def audit(self) -> Iterator[AuditEntry]:
        """Who changed what, when, from where; newest first."""
        return self._connection.pages("/audit", Page[AuditEntry])
