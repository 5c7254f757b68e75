"""A finished feature set: the root index that names its shards, and reading a split of it.

`index.json` is written last. It holds the lineage (manifest digest, fingerprint), the shards with their checksums and
counts, and the feature-set digest over all of that, by which runs and registered models refer to it. An extraction that
extends the set replaces it; every index stays as `snapshot-<12 hex of its digest>.json`, and `<uri>@<12 hex>` opens it.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.errors import UserError
from infra.storage.base import Store
from infra.storage.open import open_store
from pipelines.datasets.manifest import Manifest
from pipelines.features.shards import (
    MEMBERS,
    SHARD_NAME,
    Receipt,
    Rejection,
    Shards,
    StoredShards,
    Written,
    canonical_json,
    load_json,
    read_member,
    read_receipts,
    tar_name,
    view_npy,
)

INDEX, SIZES = "index.json", "sizes.json"
FORMAT = "shan-features/3"
_NAMES = ("dataset", "manifest", "fingerprint", "photos", "feature_set")
_DIGEST = re.compile(r"(.+)@([0-9a-f]{12})")


@dataclass(frozen=True)
class FeatureSet:
    """Opened by `FeatureSet.open(uri)`; everything below is from its index and receipts."""

    store: Store
    index: dict[str, Any]
    receipts: tuple[Receipt, ...]

    @classmethod
    def open(cls, uri: str) -> "FeatureSet":
        """Reads index and receipts; UserError if there is no finished feature set at the URI.

        `<uri>@<12 hex>` is the feature set of that digest, which later extractions have extended.
        """
        store, name = locate(uri)
        try:
            index = read_index(store, name)
            receipts = tuple(read_receipts(store, [row["name"] for row in index["shards"]]).values())
            whole = (
                index_digest(index) == index["feature_set"]
                and [index_row(each) for each in receipts] == index["shards"]
            )
        except FileNotFoundError as error:
            raise UserError(f"{uri}: no finished feature set here; run `python -m jobs.extract` to its end") from error
        except UserError:
            raise
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise UserError(f"{uri}: its {INDEX} is not one of ours ({error!r}); point at a feature set") from error
        if not whole:
            raise UserError(f"{uri}: index or receipts are damaged; `python -m jobs.features verify` names what is")
        return cls(store, index, receipts)

    @property
    def uri(self) -> str:
        """Where it is."""
        return self.store.uri

    @property
    def dataset(self) -> str:
        """Name of the data set that its manifest came from."""
        return str(self.index["dataset"])

    @property
    def lineage(self) -> dict[str, str]:
        """`manifest`, `fingerprint` and `feature_set`: what a run and a registered model note down."""
        return {name: str(self.index[name]) for name in ("manifest", "fingerprint", "feature_set")}

    @property
    def rejected(self) -> tuple[Rejection, ...]:
        """Every planned photo that could not be used, with its reason."""
        return tuple(row for receipt in self.receipts for row in receipt.rejected)

    def split(self, name: str) -> "Split":
        """The photos of a split; UserError if it has none."""
        receipts = tuple(r for r in self.receipts if r.split == name and r.written)
        if not receipts:
            raise UserError(f"{self.uri}: split '{name}' holds no photo; the data set needs at least one usable there")
        shards = StoredShards(self.store, {tar_name(receipt.shard): receipt.sha256 for receipt in receipts})
        return Split(name, self.store, receipts, self.index["manifest"], shards)


@dataclass(frozen=True)
class Split:
    """The photos of one split, read by offset from the shards: nothing is held but their descriptions."""

    name: str
    store: Store
    receipts: tuple[Receipt, ...]
    manifest: str
    """Digest of the manifest that the photos are of."""
    shards: Shards
    """The shards in their store, or on this node, where they were fetched (`pipelines.training.shard_cache`)."""

    @cached_property
    def _places(self) -> list[tuple[str, Written]]:
        return [(tar_name(receipt.shard), photo) for receipt in self.receipts for photo in receipt.written]

    @cached_property
    def keys(self) -> list[str]:
        """Key of every photo, in order."""
        return [key for receipt in self.receipts for key in receipt.keys]

    @cached_property
    def sources(self) -> list[str]:
        """File of every photo, below the root of the data set."""
        return [photo.source for receipt in self.receipts for photo in receipt.written]

    @cached_property
    def meta(self) -> list[dict[str, Any]]:
        """Per photo: source, sha256, captions, classes and confidences of its regions, width and height.

        Imports of precomputed features leave out what their source does not say: width and height have no entry, lists
        of classes and confidences are empty, sha256 is ''.
        """
        return [json.loads(bytes(self._member(row, 2))) for row in range(len(self))]

    @cached_property
    def captions_of_photos(self) -> list[tuple[str, ...]]:
        """Captions of every photo, by the manifest: one object, where the shards would be one request a photo."""
        name = manifest_name(self.manifest)
        try:
            data = self.store.read(name)
        except FileNotFoundError as error:
            raise UserError(f"{self.store.uri}/{name} is not there; extract the data set again") from error
        manifest = Manifest.from_parquet(data, f"{self.store.uri}/{name}")
        if manifest.digest() != self.manifest:
            raise UserError(f"{self.store.uri}/{name} was changed after it was written; extract the data set again")
        told = {photo.key: photo.captions for photo in manifest.photos()}
        return [told[key] for key in self.keys]

    @cached_property
    def captions(self) -> list[str]:
        """Every caption of the split, photo by photo."""
        return [caption for captions in self.captions_of_photos for caption in captions]

    @cached_property
    def photo_of_caption(self) -> NDArray[np.int64]:
        """For every caption, the row of its photo."""
        return np.repeat(np.arange(len(self)), [len(captions) for captions in self.captions_of_photos])

    def on_node(self, shards: Shards) -> "Split":
        """The same, read from files of this node."""
        return replace(self, shards=shards)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(
        self, rows: slice | Sequence[int] | NDArray[np.integer]
    ) -> NDArray[np.float16] | list[NDArray[np.float16]]:
        """Region features of the chosen photos: n x R x F, or n arrays R_i x F where they differ in regions."""
        return stacked([self._array(row, 0, np.float16) for row in np.arange(len(self))[rows]])

    def boxes(self, row: int) -> NDArray[np.float32]:
        """Boxes R x 4 (xyxy, pixels) of one photo; 0 x 4 where an import brought none."""
        return self._array(row, 1, np.float32)

    def _array(self, row: int, number: int, dtype: type[np.floating[Any]]) -> NDArray[Any]:
        tar, photo = self._places[row]
        try:
            array = view_npy(self._member(row, number))
            found = f"{array.dtype} of shape {array.shape}"
        except (ValueError, TypeError) as error:
            array, found = np.empty(0), str(error)
        if array.ndim != 2 or array.dtype != dtype:
            raise UserError(f"{self.store.uri}/{tar}: {photo.key}.{MEMBERS[number]} is no array of ours ({found})")
        return array

    def _member(self, row: int, number: int) -> memoryview:
        """Contents of one of a photo's members. UserError if the receipt points at something else."""
        tar, photo = self._places[row]
        return read_member(self.shards, tar, photo.key, number, photo.offsets[number])


def stacked(regions: list[NDArray[np.float16]]) -> NDArray[np.float16] | list[NDArray[np.float16]]:
    """One array where all photos have as many regions; the list as it is where they differ."""
    return np.stack(regions) if len({len(regions_RF) for regions_RF in regions}) == 1 else regions


def locate(uri: str) -> tuple[Store, str]:
    """The store of a feature set's URI, and the name of the index that it means: `<uri>@<12 hex>` is a past one."""
    pinned = _DIGEST.fullmatch(uri)
    return (open_store(pinned[1]), f"snapshot-{pinned[2]}.json") if pinned else (open_store(uri), INDEX)


def index_digest(index: dict[str, Any]) -> str:
    """The feature-set digest: sha256 of an index without the digest itself and the place of the photos."""
    told = {name: value for name, value in index.items() if name not in ("feature_set", "photos")}
    return sha256(canonical_json(told)).hexdigest()


def read_index(store: Store, name: str = INDEX) -> dict[str, Any]:
    """An index of a feature set; FileNotFoundError if there is none, ValueError if it is not one of ours."""
    index = load_json(store.read(name))
    if index.get("format") != FORMAT:
        raise ValueError(f"format is not {FORMAT}")
    try:
        names = [index[field] for field in _NAMES] + [row["name"] for row in index["shards"]]
        ours = all(isinstance(name, str) for name in names) and isinstance(index["detector"], dict)
        ours = ours and all(SHARD_NAME.fullmatch(row["name"]) for row in index["shards"])  # they become files' names
    except (LookupError, TypeError) as error:
        raise ValueError(f"it has no {error}") from error
    if not ours:
        raise ValueError("a name in it is none of ours")
    return index


def write_index(
    store: Store,
    manifest: Manifest,
    fingerprint: str,
    detector: dict[str, Any],
    receipts: Sequence[Receipt],
) -> FeatureSet:
    """Checks that every photo of the manifest is accounted for, once, and writes the index and what goes with it.

    Raises RuntimeError if planned differs from written plus rejected.
    """
    written = Counter(row.key for receipt in receipts for row in receipt.written)
    rejected = Counter(row.key for receipt in receipts for row in receipt.rejected)
    planned = Counter(photo.key for photo in manifest.photos())
    if written + rejected != planned:
        raise RuntimeError(
            f"{store.uri}: planned {planned.total()} photos, written {written.total()}, rejected {rejected.total()}"
        )
    shards = [index_row(receipt) for receipt in receipts]
    index: dict[str, Any] = {
        "format": FORMAT,
        "dataset": manifest.name,
        "manifest": manifest.digest(),
        "fingerprint": fingerprint,
        "detector": detector,
        "shards": shards,
    }
    index["feature_set"] = index_digest(index)
    index["photos"] = manifest.root  # where pages find the photos; moving them changes nothing, so not in the digest
    # webdataset's convention: the number of samples of every tar.
    put(store, SIZES, canonical_json({tar_name(row["name"]): row["count"] for row in shards}))
    put(store, f"snapshot-{index['feature_set'][:12]}.json", canonical_json(index))
    put(store, INDEX, canonical_json(index))
    return FeatureSet(store, index, tuple(receipts))


def index_row(receipt: Receipt) -> dict[str, Any]:
    """What an index says of a shard."""
    return {
        "name": receipt.shard,
        "sha256": receipt.sha256,
        "bytes": receipt.size,
        "count": len(receipt.written),
        "rejected": len(receipt.rejected),
        "photos": receipt.digest,
    }


def manifest_name(digest: str) -> str:
    """Object name of the manifest of a digest; each index of a feature set has its own."""
    return f"manifest-{digest[:12]}.parquet"


def write_manifest(store: Store, manifest: Manifest) -> None:
    """The first object of a feature set; UserError if the store cannot be written, before any work is done."""
    try:
        store.put_if_absent(manifest_name(manifest.digest()), manifest.to_parquet())
    except OSError as error:
        raise UserError(
            f"{store.uri}: cannot be written ({error.strerror or error}); choose another extract.output"
        ) from error


def put(store: Store, name: str, data: bytes) -> None:
    """Writes an object unless it is there with these bytes: a rerun of a finished extraction writes nothing."""
    try:
        if store.read(name) == data:
            return
    except FileNotFoundError:
        pass
    store.replace(name, data)
