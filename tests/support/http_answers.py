"""An HTTP server with fixed answers, in place of the proxies, login pages and other servers that users point at."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Answer:
    """A response to a request."""

    status: int = 200
    body: str = ""
    kind: str = "text/html"
    headers: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def answering(answer: Callable[[str], Answer]) -> Iterator[str]:
    """Starts a server that answers a request by its path, and returns its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            found = answer(self.path)
            self.send_response(found.status)
            content = {"content-type": found.kind, "content-length": str(len(found.body))}
            for name, value in (content | dict(found.headers)).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(found.body.encode())

        do_POST = do_PATCH = do_DELETE = do_GET

        def log_message(self, *arguments: object) -> None:
            """Prints nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
