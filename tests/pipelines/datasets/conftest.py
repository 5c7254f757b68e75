"""Fixtures of the data set tests."""

import io
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from infra.storage import s3_client
from tests.support.servers import S3Server, aws_environment


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    """Returns an uncompressed tar file with the photos a.jpg and deep/b.jpg and a folder."""
    path = tmp_path / "photos.tar"
    with tarfile.open(path, "w") as opened:
        for name in ("a.jpg", "deep/b.jpg"):
            info = tarfile.TarInfo(name)
            info.size = 3000
            opened.addfile(info, io.BytesIO(name[-5:-4].encode() * 3000))
        opened.add(path.parent, "folder", recursive=False)
    return path


class Server(SimpleHTTPRequestHandler):
    """Serves a folder."""

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Yields the URL of a web server whose folder has the file a.jpg."""
    (tmp_path / "a.jpg").write_bytes(b"bytes of a")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Server, directory=str(tmp_path))) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.fixture
def listings(s3_server: S3Server) -> Iterator[list[str]]:
    """The prefixes that this process lists in a bucket, in order."""
    found: list[str] = []

    def record(params: dict[str, str], **_: object) -> None:
        found.append(params["Prefix"])

    with aws_environment(s3_server.environment()):
        events = s3_client.client().meta.events
        events.register("provide-client-params.s3.ListObjectsV2", record)
        yield found
        events.unregister("provide-client-params.s3.ListObjectsV2", record)
