"""Reads many photos, some at a time, because web servers and object stores take a while to answer."""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from pipelines.datasets.decode import PhotoError
from pipelines.datasets.http_download import NoResponseError
from pipelines.datasets.photo_sources import read_photo

READERS = 8
"""Photos that are read at a time."""
SILENT_PHOTOS = 3
"""Photos in a row without a response of their web server, after which it is given up."""


def read_photos(uris: Iterable[str]) -> Iterator[bytes | PhotoError]:
    """Yields the bytes of each photo, or the reason why it is unavailable, in order.

    Photos of a web server that was given up are not requested: 32 photos of a server that does not respond take as long
    as one of them. Raises the errors of `read_photo` that are failures of a disk or store.
    """
    pool, silent = ThreadPoolExecutor(READERS), Counter[str]()
    pending: deque[Future[bytes | PhotoError]] = deque()
    try:
        for uri in uris:
            pending.append(pool.submit(_read, uri, silent))
            if len(pending) == READERS:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _read(uri: str, silent: Counter[str]) -> bytes | PhotoError:
    """Reads a photo; `silent` counts the photos in a row to which a web server gave no response."""
    server = uri.split("/")[2] if uri.startswith(("http://", "https://")) else ""
    if silent[server] >= SILENT_PHOTOS:
        return PhotoError(f"not downloaded: {server} gave no response for {SILENT_PHOTOS} other photos")
    try:
        data = read_photo(uri)
    except NoResponseError as error:
        silent[server] += 1
        return error
    except PhotoError as error:
        silent[server] = 0
        return error
    silent[server] = 0
    return data
