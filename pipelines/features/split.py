"""The photos of one split of a feature set, read by offset from the shards."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.errors import UserError
from infra.storage.base import Store
from pipelines.features.captions import PhotoCaptions, captions_of
from pipelines.features.layout import tar_name
from pipelines.features.npy import is_finite, view_npy
from pipelines.features.photo_table import PhotoTable
from pipelines.features.receipt import MEMBERS
from pipelines.features.shard_reader import Shards, read_sample_member
from pipelines.features.texts import Texts


@dataclass(frozen=True)
class Split:
    """The photos of one split, read by offset from the shards. Only their descriptions are held in memory."""

    name: str
    store: Store
    stored: PhotoTable
    """The photos before `selecting` restricted the split."""
    manifest: str
    """Digest of the manifest."""
    shards: Shards
    """The shards in their store, or on this node (`pipelines.training.shard_cache`)."""
    selected: tuple[str, ...] | None = None
    """Keys of the photos to which `selecting` has restricted the split, in order; None for all of its photos."""

    @cached_property
    def photos(self) -> PhotoTable:
        """Where every photo is stored, in order."""
        return self.stored if self.selected is None else self.stored.take(self.stored.rows_of(self.selected))

    @property
    def keys(self) -> Texts:
        """Key of every photo, in order."""
        return self.photos.keys

    @property
    def sources(self) -> Texts:
        """File of every photo, relative to the root of the data set."""
        return self.photos.sources

    @cached_property
    def meta(self) -> list[dict[str, Any]]:
        """`meta_of` every photo, in order. It takes a pass over the shards, and holds all of them in memory."""
        return [self.meta_of(row) for row in range(len(self))]

    def meta_of(self, row: int) -> dict[str, Any]:
        """Returns source, sha256, captions, classes and confidences of the regions, width and height of a photo.

        Imported features lack what their source does not contain: width and height are absent, the lists of classes
        and confidences are empty, and sha256 is ''.
        """
        meta: dict[str, Any] = json.loads(bytes(self._member(row, 2)))
        return meta

    def captioned(self) -> "Split":
        """Returns the photos that have captions, which may be none."""
        captioned = self.captions_of_photos.counts > 0
        return self if captioned.all() else replace(self, stored=self.stored.take(np.flatnonzero(captioned)))

    @cached_property
    def captions_of_photos(self) -> PhotoCaptions:
        """Captions of every photo, which may have none, read from the manifest: one object, not a request per photo."""
        return captions_of(self.store, self.manifest, self.keys)

    @property
    def captions(self) -> Texts:
        """Every caption of the split, in the order of the photos."""
        return self.captions_of_photos.texts

    @cached_property
    def photo_of_caption(self) -> NDArray[np.int64]:
        """For every caption, the row of its photo."""
        return np.repeat(np.arange(len(self)), self.captions_of_photos.counts)

    @property
    def photos_stored(self) -> int:
        """Number of photos of the split before `selecting` restricted it."""
        return len(self.stored)

    def selecting(self, keys: Sequence[str]) -> "Split":
        """Returns the split with only the photos of these keys, in this order."""
        return replace(self, selected=tuple(keys))

    def on_node(self, shards: Shards) -> "Split":
        """Returns the same split, read from files of this node."""
        return replace(self, shards=shards)

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(
        self, rows: slice | Sequence[int] | NDArray[np.integer]
    ) -> NDArray[np.float16] | list[NDArray[np.float16]]:
        """Returns region features of n photos: n x R x F, or a list of R_i x F where the numbers of regions differ.

        Raises UserError for features that are corrupt, or not finite: scores of such a photo would mean nothing.
        """
        every = range(len(self))
        return stacked([*map(self._regions, every[rows] if isinstance(rows, slice) else (every[row] for row in rows))])

    def boxes(self, row: int) -> NDArray[np.float32]:
        """Returns the boxes of one photo, R x 4 (x0 y0 x1 y1, pixels); 0 x 4 if an import had none."""
        return self._array(row, 1, np.float32)

    def _regions(self, row: int) -> NDArray[np.float16]:
        array = self._array(row, 0, np.float16)
        if not is_finite(array):
            raise not_finite(f"{self.store.uri}/{self._tar(row)}", self.keys[row])
        return array

    def _array(self, row: int, number: int, dtype: type[np.floating[Any]]) -> NDArray[Any]:
        try:
            array = view_npy(self._member(row, number))
        except (ValueError, TypeError) as error:
            raise self._not_a_matrix(row, number, str(error), dtype) from error
        if array.ndim != 2 or array.dtype != dtype:
            raise self._not_a_matrix(row, number, f"{array.dtype} of shape {array.shape}", dtype)
        return array

    def _not_a_matrix(self, row: int, number: int, found: str, dtype: type[np.floating[Any]]) -> UserError:
        return UserError(
            f"{self.store.uri}/{self._tar(row)}: {self.keys[row]}.{MEMBERS[number]} is {found}, expected a matrix of "
            f"{np.dtype(dtype)}; extract again"
        )

    def _member(self, row: int, number: int) -> memoryview:
        """Returns a photo's member `MEMBERS[number]`. Raises UserError if the receipt points at something else."""
        offset, size = self.photos.offsets[row, number].tolist()
        return read_sample_member(self.shards, self._tar(row), self.keys[row], number, (offset, size))

    def _tar(self, row: int) -> str:
        return tar_name(self.photos.shards[self.photos.shard_of[row]].name)


def not_finite(shard: str, key: str) -> UserError:
    """Returns the error of a photo whose region features contain NaN or infinity."""
    return UserError(f"{shard}: {key}.{MEMBERS[0]} contains NaN or infinity; extract again")


def stacked(regions: list[NDArray[np.float16]]) -> NDArray[np.float16] | list[NDArray[np.float16]]:
    """Returns one array n x R x F if all photos have the same number of regions, otherwise the list unchanged."""
    return np.stack(regions) if len({len(regions_RF) for regions_RF in regions}) == 1 else regions
