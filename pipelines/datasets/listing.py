"""Listings of folders and buckets as columns: of millions of objects, only one chunk exists as Python objects."""

import unicodedata
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import chain, groupby, islice
from os.path import commonprefix

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from infra.errors import UserError
from infra.storage.open import open_store
from pipelines.datasets.data_files import data_files
from pipelines.datasets.manifest_checks import text_hashes

_CHUNK = 10_000
"""Objects that exist as Python objects at a time."""
MOST_LISTINGS = 64
"""Most prefixes of a bucket that are listed; more folders are listed by prefixes that they have in common."""


class Listing:
    """The files below a folder or prefix (`data_files`), which is listed once: when they are first looked at."""

    def __init__(self, location: str) -> None:
        self.location = location

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Yields name and version token of every file, sorted by name."""
        for batch in self._table.to_batches(max_chunksize=_CHUNK):
            for name, token in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                yield name.decode(errors="surrogateescape"), token

    @cached_property
    def _table(self) -> pa.Table:
        schema = pa.schema([("name", pa.large_binary()), ("version_token", pa.large_string())])
        files, tables = data_files(self.location), [schema.empty_table()]
        while some := list(islice(files, _CHUNK)):
            names = [name.encode(errors="surrogateescape") for name, _ in some]  # of a file, they may be any bytes
            tables.append(pa.table([names, [token for _, token in some]], schema=schema))
        return pa.concat_tables(tables).sort_by("name")


class ObjectTokens:
    """Version tokens of those S3 objects that exist, in about 50 bytes each: a hash of the URI and the token.

    Objects whose URIs differ in Unicode form or case are kept as well (`spellings`).
    """

    def __init__(self, uris: Iterable[str]) -> None:
        """Lists the folders of the objects: each of them, or common prefixes of more than MOST_LISTINGS of a bucket."""
        folders, hashes, iterator = defaultdict[str, set[str]](set), [np.empty(0, np.int64)], iter(uris)
        while some := list(islice(iterator, _CHUNK)):
            for uri in some:
                bucket, _, name = uri.removeprefix("s3://").partition("/")
                if not (bucket and name):
                    raise UserError(f"photo {uri} names no object; write s3://bucket/key")
                folders[bucket].add(uri[: uri.rindex("/") + 1])
            hashes.append(_spelling_hashes(some))
        wanted = np.unique(np.concatenate(hashes))
        found, tokens = [np.empty(0, np.int64)], list[pa.Array]()
        objects = chain.from_iterable(_objects(prefix) for each in folders.values() for prefix in common_prefixes(each))
        while listed := list(islice(objects, _CHUNK)):
            _, exists = _search(wanted, _spelling_hashes([uri for uri, _ in listed]))
            some_objects = [listed[row] for row in np.flatnonzero(exists)]
            found.append(text_hashes([uri for uri, _ in some_objects]))
            tokens.append(pa.array([token for _, token in some_objects], pa.large_string()))
        order = np.argsort(unsorted := np.concatenate(found))
        self._hashes = unsorted[order]
        self._tokens = pa.chunked_array(tokens, pa.large_string()).combine_chunks().take(pa.array(order))

    def find(self, uris: list[str]) -> dict[str, str]:
        """Returns the version tokens of those of the objects that exist, by URI."""
        ranks, exists = _search(self._hashes, text_hashes(uris))
        tokens = self._tokens.take(pa.array(ranks[exists])).to_pylist()
        return dict(zip((uris[row] for row in np.flatnonzero(exists)), tokens, strict=True))


def _search(ascending: NDArray[np.int64], values: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Returns for each value its rank among the ascending ones, and whether it is one of them."""
    ranks = np.searchsorted(ascending, values)
    exists = ranks < len(ascending)
    exists[exists] = ascending[ranks[exists]] == values[exists]
    return ranks, exists


def _spelling_hashes(uris: list[str]) -> NDArray[np.int64]:
    """Returns a hash of each URI that all of its spellings have."""
    return text_hashes([unicodedata.normalize("NFC", uri).lower() for uri in uris])


def common_prefixes(folders: Iterable[str]) -> list[str]:
    """Returns at most MOST_LISTINGS prefixes of the folders of one bucket, which end with `/`: each folder has one.

    Folders that are equal up to some character share their longest common prefix. The later that character, the more
    prefixes, and the fewer other objects in their listings.
    """
    outer: list[str] = []
    for folder in sorted(folders):
        if not (outer and folder.startswith(outer[-1])):
            outer.append(folder)
    lengths = range(max(map(len, outer)) + 1)
    length = bisect_right(lengths, MOST_LISTINGS, key=lambda length: len({folder[:length] for folder in outer})) - 1
    return [commonprefix(list(group)) for _, group in groupby(outer, lambda folder: folder[:length])]  # noqa: RUF071 - of characters


def _objects(prefix: str) -> Iterator[tuple[str, str]]:
    """Yields URI and version token of every object whose URI starts with a prefix."""
    folder, _, start = prefix.rpartition("/")
    for name, info in open_store(folder).scan(start):
        yield f"{folder}/{name}", info.version_token
