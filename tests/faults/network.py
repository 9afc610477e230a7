"""The wire between the programs and Redis: a TCP proxy of this process that can be cut."""

import selectors
import socket
import struct
import threading
from contextlib import suppress

CHUNK_BYTES = 65536
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST, as a peer that has forgotten the connection


class Wire:
    """Forwards `port` to `target`. `cut` resets everybody and refuses newcomers; `hold` lets nothing through,
    in silence, and `heal` ends both."""

    def __init__(self, target: int) -> None:
        self.target = target
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._door.getsockname()[1])
        self._door.setblocking(False)
        self._is_cut = self._is_held = self._is_closed = False
        self._lock = threading.Lock()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._door, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def cut(self) -> None:
        with self._lock:
            self._is_cut = True
            self._reset_all()

    def hold(self) -> None:
        self._is_held = True

    def heal(self) -> None:
        self._is_cut = self._is_held = False

    def close(self) -> None:
        self._is_closed = True
        self._thread.join(5)
        with self._lock:
            self._reset_all()
        self._door.close()
        self._selector.close()

    def _carry(self) -> None:
        while not self._is_closed:
            if self._is_held:
                threading.Event().wait(0.02)
                continue
            for key, _ in self._selector.select(0.1):
                with self._lock:
                    if key.fileobj is self._door:
                        self._accept()
                    elif isinstance(key.fileobj, socket.socket):
                        self._forward(key.fileobj)

    def _accept(self) -> None:
        caller, _ = self._door.accept()
        try:
            if self._is_cut:
                raise ConnectionRefusedError
            server = socket.create_connection(("127.0.0.1", self.target), timeout=1)
        except OSError:
            _reset(caller)
            return
        for one, other in ((caller, server), (server, caller)):
            one.settimeout(5)
            self._pairs[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _forward(self, one: socket.socket) -> None:
        other = self._pairs.get(one)
        if other is None:
            return  # the other side went within this round
        try:
            content = one.recv(CHUNK_BYTES)
            other.sendall(content)
        except OSError:
            content = b""
        if not content:
            self._drop(one)

    def _drop(self, one: socket.socket) -> None:
        for end in (one, self._pairs[one]):
            with suppress(KeyError):
                self._selector.unregister(end)
            del self._pairs[end]
            _reset(end)

    def _reset_all(self) -> None:
        while self._pairs:
            self._drop(next(iter(self._pairs)))


def _reset(end: socket.socket) -> None:
    with suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    end.close()
