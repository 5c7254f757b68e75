"""Downloads from real web servers that are slow, silent, busy or broken: a photo or a reason, within the limits."""

import socket
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from pipelines.datasets.decode import PhotoError
from pipelines.datasets.http_download import DownloadLimits, download_uri
from tests.support.web_server import OK, drips, sends, status, web_server

LIMITS = DownloadLimits(deadline_s=5, silence_s=0.3, backoff_s=0.01)
MAX_BYTES = 2**20


def reason(uri: str, limits: DownloadLimits = LIMITS) -> str:
    with pytest.raises(PhotoError) as caught:
        download_uri(uri, MAX_BYTES, limits)
    return str(caught.value)


def test_a_photo_is_downloaded_up_to_the_largest_size():
    with web_server(sends(OK, b"01234", b"56789")) as (uri, _):
        assert download_uri(uri, MAX_BYTES, LIMITS) == b"0123456789"
        assert download_uri(uri, 7, LIMITS) == b"0123456"
    with web_server(drips(status(200).replace(b"Content-Length: 0\r\n", b""), b"x" * 65536, 0)) as (uri, _):
        assert len(download_uri(uri, MAX_BYTES, LIMITS)) == MAX_BYTES


def test_slow_response_body_is_abandoned_once():
    with web_server(drips(OK, b"x", 0.05)) as (uri, connections):
        start = time.monotonic()
        assert reason(uri) == "the web server sends less than 1024 bytes per second"
        assert time.monotonic() - start < 2
        assert len(connections) == 1


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nX-Slow: "], ids=["no byte", "headers without end"])
def test_a_silent_server_gets_five_attempts(head: bytes):
    with web_server(drips(head, b"x" if head else b"", 0.05)) as (uri, connections):
        start = time.monotonic()
        assert reason(uri) == "no response from the web server within 0.3 s"
        assert time.monotonic() - start < 5
        assert len(connections) == 5


def test_a_body_that_stops_is_tried_again():
    def answer(connection: socket.socket, number: int) -> None:
        connection.sendall(OK + b"01234")
        if number == 0:
            connection.recv(1)  # returns when the client closes the connection
        else:
            connection.sendall(b"56789")

    with web_server(answer) as (uri, _):
        assert download_uri(uri, MAX_BYTES, LIMITS) == b"0123456789"


def test_all_attempts_end_at_the_deadline():
    endless = status(200).replace(b"Content-Length: 0\r\n", b"")
    with web_server(drips(endless, b"x" * 1000, 0.05)) as (uri, _):
        start = time.monotonic()
        assert reason(uri, replace(LIMITS, deadline_s=1)) == "not downloaded within 1 s"
        assert time.monotonic() - start < 2


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (status(503), "HTTP status 503"),
        (status(429, "Retry-After: 0"), "HTTP status 429"),
        (status(429, "Retry-After: soon"), "HTTP status 429"),
        (b"", "the web server closes the connection"),
        (OK + b"01234", "the web server closes the connection"),
    ],
    ids=["busy", "busy without a wait", "busy with an invalid wait", "no response", "half a body"],
)
def test_a_dead_url_gets_five_connections(answer: bytes, expected: str):
    with web_server(sends(answer)) as (uri, connections):
        assert reason(uri) == expected
        assert len(connections) == 5


@pytest.mark.parametrize(
    "wait",
    ["3600", format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True), "9" * 400],
    ids=["seconds", "date", "many digits"],  # the processes of a run must find the same names
)
def test_a_wait_beyond_the_deadline_is_not_made(wait: str):
    with web_server(sends(status(429, f"Retry-After: {wait}"))) as (uri, connections):
        start = time.monotonic()
        assert reason(uri) == "HTTP status 429, and another attempt would exceed 5 s"
        assert time.monotonic() - start < 1
        assert len(connections) == 1


def test_a_shorter_wait_is_made():
    def answer(connection: socket.socket, number: int) -> None:
        connection.sendall(status(503, "Retry-After: 1") if number == 0 else OK + b"0123456789")

    with web_server(answer) as (uri, connections):
        assert download_uri(uri, MAX_BYTES, LIMITS) == b"0123456789"
        assert connections[1] - connections[0] >= 1


@pytest.mark.parametrize("code", [301, 400, 401, 403, 404, 410, 501])
def test_other_statuses_are_final(code: int):
    with web_server(sends(status(code))) as (uri, connections):
        assert reason(uri) == f"HTTP status {code}"
        assert len(connections) == 1


def test_redirects_are_followed_a_few_times():
    def answer(connection: socket.socket, number: int) -> None:
        connection.sendall(status(302, "Location: /b.jpg") if number < 2 else OK + b"0123456789")

    with web_server(answer) as (uri, _):
        assert download_uri(uri, MAX_BYTES, LIMITS) == b"0123456789"
    with web_server(sends(status(302, "Location: /a.jpg"))) as (uri, connections):
        assert reason(uri) == "redirected too often"
        assert len(connections) == 5


@pytest.mark.parametrize("path", ["b/.\t./c.jpg", "b/%2e%2e/c.jpg", "b/..%2fc.jpg", "b/..\\c.jpg", "c.jpg", "bc/a.jpg"])
def test_a_url_outside_of_the_sources_is_not_requested(path: str):
    with web_server(sends(OK, b"0123456789")) as (uri, connections):
        root = uri.removesuffix("a.jpg")
        limits = replace(LIMITS, sources=("s3://b/", f"{root}b/"))
        assert reason(root + path, limits) == "its URL, or a redirect, leads to a URL that may not be read"
        assert not connections
        assert download_uri(f"{root}b/a b.jpg", MAX_BYTES, limits) == b"0123456789"


def test_a_redirect_is_followed_within_the_sources():
    def answer(connection: socket.socket, number: int) -> None:
        targets = ["/b/c.jpg", "/b/../secret.jpg"]
        connection.sendall(status(302, f"Location: {targets[number]}"))

    with web_server(answer) as (uri, connections):
        root = uri.removesuffix("a.jpg")
        found = reason(f"{root}b/a.jpg", replace(LIMITS, sources=(f"{root}b/",)))
        assert found == "its URL, or a redirect, leads to a URL that may not be read"
        assert len(connections) == 2


def test_an_unreachable_server_rejects_the_photo():
    assert reason("http://127.0.0.1:9/a.jpg") == "the web server cannot be reached"
    assert reason("http://nowhere.invalid/a.jpg") == "the web server cannot be reached"


@pytest.mark.parametrize(
    "uri",
    ["http://", "http:///a.jpg", "http://[::1/a.jpg", "http://a..b/a.jpg", f"http://{'a' * 70}.b/", "http://h:x/"],
)
def test_an_invalid_url_rejects_the_photo(uri: str):
    assert reason(uri) in ("not a valid URL, or not an HTTP server", "the web server cannot be reached")


def test_what_is_not_http_rejects_the_photo():
    with web_server(sends(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")) as (uri, _):
        assert reason(uri) == "not a valid URL, or not an HTTP server"
