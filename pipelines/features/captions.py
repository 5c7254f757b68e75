"""The captions of a manifest, and those of some of its photos, as columns."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from infra.errors import CorruptDataError
from infra.storage.base import Store
from pipelines.features.layout import manifest_name
from pipelines.features.manifests import read_manifest
from pipelines.features.texts import Texts


@dataclass(frozen=True, eq=False)
class PhotoCaptions(Sequence[tuple[str, ...]]):
    """The captions of every photo, which may have none. They exist as Python objects only while they are looked at."""

    array: pa.LargeStringArray
    """Captions of these photos and of others."""
    first: NDArray[np.int64]
    """Position in `array` of each photo's first caption."""
    counts: NDArray[np.int64]
    """Number of captions of each photo."""

    @cached_property
    def texts(self) -> Texts:
        """Every caption, in the order of the photos."""
        before = np.cumsum(self.counts) - self.counts
        return Texts(self.array, np.repeat(self.first - before, self.counts) + np.arange(self.counts.sum()))

    def of_photos(self, rows: "NDArray[np.integer] | slice") -> "PhotoCaptions":
        """Returns the captions of the photos of these rows, in this order."""
        return PhotoCaptions(self.array, self.first[rows], self.counts[rows])

    def __len__(self) -> int:
        return len(self.counts)

    @overload
    def __getitem__(self, at: int) -> tuple[str, ...]: ...
    @overload
    def __getitem__(self, at: slice) -> "PhotoCaptions": ...
    def __getitem__(self, at: int | slice) -> "tuple[str, ...] | PhotoCaptions":
        if isinstance(at, slice):
            return self.of_photos(at)
        return tuple(self.array.slice(int(self.first[at]), int(self.counts[at])).to_pylist())

    def __iter__(self) -> Iterator[tuple[str, ...]]:
        texts = iter(self.texts)
        return (tuple(next(texts) for _ in range(count)) for count in self.counts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(self) != len(other):
            return False
        return all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]


def captions_of(store: Store, digest: str, keys: Texts) -> PhotoCaptions:
    """Returns the captions of photos of a manifest, in the order of their keys.

    Raises CorruptDataError as `read_manifest`, and for a key that the manifest does not have.
    """
    manifest_keys, captions = _read_captions(store, digest)
    rows = pc.index_in(keys.array, value_set=manifest_keys)
    if rows.null_count:
        key = keys[pc.index(rows.is_null(), value=True).as_py()]
        raise CorruptDataError(
            f"{store.uri}/{manifest_name(digest)} does not have photo {key}; delete it and extract the data set again"
        )
    return captions.of_photos(rows.to_numpy())


@lru_cache(maxsize=1)
def _read_captions(store: Store, digest: str) -> tuple[pa.ChunkedArray, PhotoCaptions]:
    """Returns the keys of a manifest and the captions of its photos.

    The last result is kept, because every split of a feature set needs it and a manifest never changes.
    """
    table = read_manifest(store, digest).table
    lists = table["captions"]
    texts = [chunk.flatten().cast(pa.large_string()) for chunk in lists.chunks]  # large: more than 2 GiB of text
    counts = pc.list_value_length(lists).to_numpy().astype(np.int64)
    return table["key"], PhotoCaptions(pa.concat_arrays(texts), np.cumsum(counts) - counts, counts)
