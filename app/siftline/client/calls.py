"""What the calls of every noun stand on."""

from siftline.client.connection import Connection


class Calls:
    """The calls of one noun; `Client` is all of them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
