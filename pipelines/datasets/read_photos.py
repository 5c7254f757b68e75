"""Reads many photos, some at a time, because web servers and object stores take a while to answer."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from pipelines.datasets.decode import PhotoError
from pipelines.datasets.http_download import SilentServers
from pipelines.datasets.photo_sources import read_photo

READERS = 8
"""Photos that are read at a time."""
_SERVERS = SilentServers()
"""Web servers as the photos found them that this process has read: one part of a shard has few photos of a server."""


def read_photos(uris: Iterable[str]) -> Iterator[bytes | PhotoError]:
    """Yields the bytes of each photo, or the reason why it is unavailable, in order.

    Photos of a web server that was given up are not requested: 32 photos of a server that does not respond take as long
    as one of them, and those of later calls take no time until the server is tried again. Photos in Parquet files are
    read one after the other, because only the last row group is kept. Raises the errors of `read_photo` that are
    failures of a disk or store.
    """
    pool, in_order = ThreadPoolExecutor(READERS), ThreadPoolExecutor(1)
    pending: deque[Future[bytes | PhotoError]] = deque()
    try:
        for uri in uris:
            pending.append((in_order if uri.startswith("parquet://") else pool).submit(_read, uri))
            if len(pending) == READERS:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for threads in (pool, in_order):
            threads.shutdown(wait=False, cancel_futures=True)


def _read(uri: str) -> bytes | PhotoError:
    try:
        with _SERVERS.photo(uri):
            return read_photo(uri)
    except PhotoError as error:
        return error
