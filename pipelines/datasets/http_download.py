"""Downloads a photo from a web server: a few attempts within one deadline, in one retry loop."""

import asyncio
import ssl
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import unquote

from infra.minimum_rate import BYTES_PER_S, MinimumRate
from infra.single_flight import single_flight_cache
from pipelines.datasets.decode import PhotoError

if TYPE_CHECKING:
    import aiohttp

_BUSY = (429, 500, 502, 503, 504)
"""HTTP statuses of a server that may answer another attempt."""
_MAX_REQUESTS = 5
"""Requests in one attempt: each redirect takes another one."""
SILENT_PHOTOS = 3
"""Photos in a row without a response of their web server, after which it is given up."""
AGAIN_S = 60.0
"""Seconds after which one photo tries again a web server that was given up."""


class NoResponseError(PhotoError):
    """No attempt got a response from the web server."""


class SilentServers:
    """Counts for each web server the photos in a row without a response, and gives it up after SILENT_PHOTOS.

    After AGAIN_S one photo tries it again.
    """

    def __init__(self) -> None:
        self._silent, self._again_at = Counter[str](), dict[str, float]()

    @contextmanager
    def photo(self, uri: str) -> Iterator[None]:
        """Encloses the download of a photo. Raises PhotoError if its web server was given up."""
        server = uri.split("/")[2] if uri.startswith(("http://", "https://")) else ""
        if self._silent[server] >= SILENT_PHOTOS:
            if time.monotonic() < self._again_at[server]:
                raise PhotoError(f"not downloaded: {server} gave no response for {SILENT_PHOTOS} other photos")
            self._try_later(server)
        try:
            yield
        except NoResponseError:
            self._try_later(server)
            self._silent[server] += 1
            raise
        except PhotoError:
            self._silent[server] = 0
            raise
        self._silent[server] = 0

    def _try_later(self, server: str) -> None:
        self._again_at[server] = time.monotonic() + AGAIN_S


@dataclass(frozen=True)
class DownloadLimits:
    """How long a download may take."""

    attempts: int = 5
    """Largest number of attempts."""
    deadline_s: float = 120
    """Time for all attempts and the waits between them."""
    silence_s: float = 20
    """Time to wait for the response, and for each further part of it."""
    min_bytes_per_s: float = BYTES_PER_S
    """Smallest average rate of a response after the first `silence_s`."""
    backoff_s: float = 0.5
    """Wait before the second attempt, doubled before each later one. A longer `Retry-After` takes precedence."""
    sources: tuple[str, ...] = ()
    """Prefixes, each with a / at its end; no URL is requested that is below none of them. Empty: any URL."""


def download_uri(uri: str, max_bytes: int, limits: DownloadLimits | None = None) -> bytes:
    """Returns the first `max_bytes` bytes of what a web server sends for an `http(s)://` URI.

    A busy server, a lost connection or a silent server is retried, other errors are final. Raises PhotoError with
    the reason if the photo cannot be downloaded within the limits, NoResponseError if nothing responds.
    """
    return asyncio.run(_download(uri, max_bytes, limits or DownloadLimits()))


async def _download(uri: str, max_bytes: int, limits: DownloadLimits) -> bytes:
    import aiohttp

    try:
        async with asyncio.timeout(limits.deadline_s), _session(limits) as session:
            return await _try(session, uri, max_bytes, limits)
    except TimeoutError as error:
        raise PhotoError(f"not downloaded within {limits.deadline_s:g} s") from error
    except aiohttp.ClientConnectorCertificateError as error:
        raise PhotoError("the web server's certificate is not valid") from error
    except aiohttp.TooManyRedirects as error:
        raise PhotoError("redirected too often") from error
    except (aiohttp.ClientError, ValueError) as error:  # ValueError: not a valid host name
        raise PhotoError("not a valid URL, or not an HTTP server") from error


async def _try(session: "aiohttp.ClientSession", uri: str, max_bytes: int, limits: DownloadLimits) -> bytes:
    import aiohttp

    end, has_responded = time.monotonic() + limits.deadline_s, False
    for attempt in range(limits.attempts):
        wait_s = limits.backoff_s * 2**attempt
        try:
            async with asyncio.timeout(limits.silence_s):
                response = await session.get(uri, max_redirects=_MAX_REQUESTS)
            has_responded = True
            async with response:
                if response.status == 200:
                    return await _body(response, max_bytes, limits)
                reason = f"HTTP status {response.status}"
                if response.status not in _BUSY:
                    break
                wait_s = max(wait_s, _retry_after_s(response.headers.get("Retry-After", "")))
        except aiohttp.ClientConnectorCertificateError:
            raise
        except aiohttp.ClientConnectorError:
            reason = "the web server cannot be reached"
        except TimeoutError:
            reason = f"no response from the web server within {limits.silence_s:g} s"
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError):
            reason = "the web server closes the connection"
        if attempt == limits.attempts - 1:
            break
        if time.monotonic() + wait_s > end:
            reason += f", and another attempt would exceed {limits.deadline_s:g} s"
            break
        await asyncio.sleep(wait_s)
    raise PhotoError(reason) if has_responded else NoResponseError(reason)


async def _body(response: "aiohttp.ClientResponse", max_bytes: int, limits: DownloadLimits) -> bytes:
    data, rate = bytearray(), MinimumRate(limits.silence_s, limits.min_bytes_per_s)
    async for part in response.content.iter_any():
        data += part
        if len(data) >= max_bytes:
            break
        if rate.is_missed(len(data)):
            raise PhotoError(f"the web server sends less than {rate}")
    return bytes(data[:max_bytes])


def _retry_after_s(header: str) -> float:
    """Returns the seconds that a `Retry-After` header asks for, as a number or a date; 0 if it is neither."""
    try:
        return (
            float(header) if header.isdecimal() else (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds()
        )
    except (ValueError, TypeError):
        return 0


def _session(limits: DownloadLimits) -> "aiohttp.ClientSession":
    import aiohttp

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=_trusted()),
        headers={"User-Agent": "shan-line photo fetcher"},
        timeout=aiohttp.ClientTimeout(total=None, sock_read=limits.silence_s),
        trust_env=True,  # proxies
        middlewares=(partial(_send_allowed, limits.sources), _send_once),
    )


async def _send_allowed(
    sources: tuple[str, ...], request: "aiohttp.ClientRequest", send: "aiohttp.ClientHandlerType"
) -> "aiohttp.ClientResponse":
    """Middleware that refuses a URL outside of `sources`, after a redirect as well, as the URL is sent: without `..`.

    A URI need not show where it leads: control characters between two dots are removed from it.
    """
    from yarl import URL

    path, below = unquote(request.url.raw_path), (str(URL(source)) for source in sources)
    if sources and (".." in path.replace("\\", "/").split("/") or not str(request.url).startswith(tuple(below))):
        raise PhotoError("its URL, or a redirect, leads to a URL that may not be read")
    return await send(request)


async def _send_once(request: "aiohttp.ClientRequest", send: "aiohttp.ClientHandlerType") -> "aiohttp.ClientResponse":
    """Middleware that hides a lost connection from aiohttp, which would send the request once more by itself."""
    import aiohttp

    try:
        return await send(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise aiohttp.ClientConnectionError(str(error)) from error


@single_flight_cache(1)
def _trusted() -> ssl.SSLContext:
    """Returns the certificates of the machine and those of certifi: some Python installations have none."""
    import certifi

    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context
