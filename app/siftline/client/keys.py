"""API keys: made, listed, revoked."""

from collections.abc import Sequence
from uuid import UUID

from pydantic import RootModel

from siftline.client.calls import Calls
from siftline.client.connection import parsed
from siftline.schemas import Key, KeyCreated, NewKey, RoleName


class KeyCalls(Calls):
    def create_key(self, name: str, role: RoleName) -> KeyCreated:
        """Make a key; it is shown in this answer and never again. With the first, the door closes."""
        body = NewKey(name=name, role=role)
        return parsed(KeyCreated, self._connection.send("POST", "/keys", body=body, twice=False))

    def keys(self) -> Sequence[Key]:
        """Newest first, revoked ones too; never the keys themselves."""
        return self._connection.get("/keys", RootModel[list[Key]]).root

    def revoke_key(self, key_id: UUID) -> None:
        self._connection.send("DELETE", f"/keys/{key_id}")
