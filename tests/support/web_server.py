"""A web server that is slow, silent, busy or broken: each connection is answered as a test wants."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\n"

Answer = Callable[[socket.socket, int], None]
"""Answers the n-th connection (from 0), after the headers of its request were read."""


@contextmanager
def web_server(answer: Answer) -> Iterator[tuple[str, list[float]]]:
    """Starts a server that closes a connection after its answer. Yields its URI and the times of the connections."""
    connections: list[float] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket, number: int) -> None:
        with connection, suppress(OSError):
            request = b""
            while b"\r\n\r\n" not in request:
                request += connection.recv(4096)
            answer(connection, number)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connections.append(time.monotonic())
                threading.Thread(target=serve, args=(connection, len(connections) - 1), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/a.jpg", connections
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def sends(*parts: bytes, every_s: float = 0) -> Answer:
    def answer(connection: socket.socket, number: int) -> None:
        for part in parts:
            connection.sendall(part)
            time.sleep(every_s)

    return answer


def drips(head: bytes, part: bytes, every_s: float) -> Answer:
    def answer(connection: socket.socket, number: int) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(part)
            time.sleep(every_s)

    return answer


def status(code: int, *headers: str) -> bytes:
    lines = (f"HTTP/1.1 {code} Status", "Content-Length: 0", "Connection: close", *headers)
    return "\r\n".join([*lines, "", ""]).encode()


@contextmanager
def ray_head_that_rejects() -> Iterator[str]:
    """Yields the address of a server that states its version as the head of a Ray cluster and rejects all else."""
    version = json.dumps({"ray_version": "2.0"}).encode()
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(version)

    def answer(connection: socket.socket, number: int) -> None:
        connection.sendall(head + version if number < 2 else status(418))  # the client asks twice

    with web_server(answer) as (uri, _):
        yield uri.removesuffix("/a.jpg")
