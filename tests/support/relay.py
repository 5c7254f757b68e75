"""A TCP relay in front of a server. Its connections can be refused, dropped and stalled, as by a network failure."""

import socket
import threading
import time
from contextlib import suppress


class Relay:
    """Forwards connections of a free loopback port to `upstream` until it is cut."""

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self._open: list[socket.socket] = []
        self._stalled: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._listen()

    def cut(self) -> None:
        """Ends every connection and refuses new ones."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop()

    def drop(self) -> None:
        """Ends every connection and accepts new ones."""
        while self._open:
            with suppress(OSError):
                self._open.pop().shutdown(socket.SHUT_RDWR)

    def stall(self) -> None:
        """Forwards nothing more on the open connections, without closing them. Accepts new ones."""
        self._stalled |= set(self._open)

    def listen(self) -> None:
        """Accepts connections again, on the same port."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._listen()

    def _listen(self) -> None:
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", self._upstream))
                self._open += [near, far]
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(source, target), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                while source in self._stalled and source in self._open:
                    time.sleep(0.02)
                target.sendall(data)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
