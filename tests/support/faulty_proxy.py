"""A proxy in front of an HTTP server that injects the faults of networks and busy stores, at random or on demand.

It forwards the Host header unchanged, because S3 clients sign it.
"""

import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

BUSY = "busy"
"""503 SlowDown. The request does not reach the server."""
CUT_BEFORE = "cut before"
"""The connection is closed. The request does not reach the server."""
CUT_REQUEST = "cut request"
"""The server receives the headers of a request without its body. Both connections are closed."""
LOST = "lost"
"""The server executes the request and its response is lost."""
CUT_BODY = "cut body"
"""The response ends after half of its body."""
CUT_HEADERS = "cut headers"
"""The response ends after its headers."""
DRIP = "drip"
"""The body comes byte by byte, 20 a second."""
CONDITION_REFUSED = "condition refused"
"""501 NotImplemented for a conditional write. Other requests are forwarded."""
CONDITION_FORBIDDEN = "condition forbidden"
"""403 AccessDenied for a conditional write. Other requests are forwarded."""
CONDITION_DROPPED = "condition dropped"
"""A conditional write is forwarded without its condition, which its signature contains."""
CONDITION_NEVER_HOLDS = "condition never holds"
"""412 PreconditionFailed for a conditional write, whether or not the object exists. Other requests are forwarded."""
CONDITION_IGNORED = "condition ignored"
"""A conditional write of an object that exists is answered as if it had succeeded. Other requests are forwarded."""

_ANSWERS = {
    BUSY: (503, "SlowDown"),
    CONDITION_REFUSED: (501, "NotImplemented"),
    CONDITION_FORBIDDEN: (403, "AccessDenied"),
    CONDITION_NEVER_HOLDS: (412, "PreconditionFailed"),
}
_HOP = {"connection", "keep-alive", "transfer-encoding", "expect", "proxy-connection"}
_PIECE = 1 << 20


class FaultyProxy:
    """The faults of one proxy, and how often each was injected."""

    def __init__(self, upstream: str, rates: Mapping[str, float] | None = None, seed: int = 0) -> None:
        self.upstream = urlsplit(upstream).netloc
        self.endpoint = ""
        self.counts: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self.latency_s = 0.0
        self.rates = dict(rates or {})
        self._random = random.Random(seed)  # noqa: S311
        self._planned: list[tuple[str, Callable[[str, str], bool]]] = []
        self._always: str | None = None
        self._lock = threading.Lock()

    def next(self, fault: str, times: int = 1, method: str = "", path: str = "") -> None:
        """Injects a fault into the next `times` requests of that method with that text in their path or query."""
        with self._lock:
            self._planned += [(fault, lambda m, p: method in {"", m} and path in p)] * times

    def always(self, fault: str | None) -> None:
        """Injects a fault into every request, or into none any more if it is None."""
        self._always = fault

    def choose(self, method: str, path: str) -> str | None:
        """Returns and counts the fault of an incoming request, or None."""
        with self._lock:
            self.requests[method] += 1
            fault = self._always or self._take(method, path) or self._draw()
            if fault:
                self.counts[fault] += 1
            return fault

    def _take(self, method: str, path: str) -> str | None:
        for index, (fault, fits) in enumerate(self._planned):
            if fits(method, path):
                del self._planned[index]
                return fault
        return None

    def _draw(self) -> str | None:
        draw = self._random.random()
        for fault, rate in self.rates.items():
            draw -= rate
            if draw < 0:
                return fault
        return None


@contextmanager
def faulty_proxy(upstream: str, rates: Mapping[str, float] | None = None, seed: int = 0) -> Iterator[FaultyProxy]:
    """Starts a proxy to `upstream` (http://host:port) on a free loopback port. `rates` are probabilities of faults."""
    proxy = FaultyProxy(upstream, rates, seed)
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": proxy}))
    proxy.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignores clients that have disconnected."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultyProxy

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class names it)
        pass

    def _answer(self) -> None:
        fault = self.proxy.choose(self.command, self.path)
        body = self._body()
        time.sleep(self.proxy.latency_s)
        if fault == BUSY or (fault in _ANSWERS and "If-None-Match" in self.headers):
            self._send_error(*_ANSWERS[fault])
        elif fault == CUT_BEFORE:
            self.close_connection = True
        else:
            if fault == CONDITION_DROPPED:
                del self.headers["If-None-Match"]
            self._forward(body, fault)

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = do_HEAD = _answer

    def _body(self) -> bytes:
        """Reads the body of a request. One in chunks, as Arrow sends, is forwarded in one piece."""
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():  # trailers
            pass
        self.headers["Content-Length"] = str(len(body))
        return body

    def _send_error(self, status: int, code: str) -> None:
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _forward(self, body: bytes, fault: str | None) -> None:
        connection = http.client.HTTPConnection(self.proxy.upstream, timeout=60)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _HOP:
                    connection.putheader(name, value)
            if fault == CUT_REQUEST:
                connection.endheaders()
                connection.close()
                self.close_connection = True
                return
            connection.endheaders(body or None)
            self._pass_on(connection.getresponse(), fault)
        except (OSError, http.client.HTTPException):
            self.close_connection = True
        finally:
            connection.close()

    def _pass_on(self, answer: http.client.HTTPResponse, fault: str | None) -> None:
        if fault == LOST:
            answer.read()
            self.close_connection = True
            return
        if fault == CONDITION_IGNORED and answer.status == 412:
            answer.read()
            self.send_response_only(200)
            self.send_header("ETag", '"0"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in _HOP:
                self.send_header(name, value)
        if answer.length is None and self.command != "HEAD":  # chunked, or delimited by the end of the connection
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        allowed = {CUT_HEADERS: 0, CUT_BODY: (answer.length or 0) // 2}.get(fault or "")
        if fault == DRIP:
            while byte := answer.read(1):
                self.wfile.write(byte)
                time.sleep(0.05)
        else:
            self._copy(answer, allowed)

    def _copy(self, answer: http.client.HTTPResponse, allowed: int | None) -> None:
        left = allowed
        while piece := answer.read(_PIECE if left is None else min(left, _PIECE)):
            self.wfile.write(piece)
            left = None if left is None else left - len(piece)
        if allowed is not None:
            with suppress(OSError):
                self.wfile.flush()
            self.close_connection = True
