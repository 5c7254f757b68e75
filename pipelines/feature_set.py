"""A finished feature set: the root index that names its shards, and reading a split of it.

`index.json` is written last. It holds the lineage (manifest digest, fingerprint), the shards with their checksums and
counts, and the feature-set digest over all of that, by which runs and registered models refer to it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.errors import UserError
from infra.store import Store, open_store
from pipelines.manifest import Manifest
from pipelines.plan import FeatureSetPlan
from pipelines.shards import Receipt, Rejection, canonical_json, load_npy, receipt_name, tar_name

INDEX, SIZES, MANIFEST = "index.json", "sizes.json", "manifest.parquet"
FORMAT = "shan-features/1"


@dataclass(frozen=True)
class FeatureSet:
    """Opened by `FeatureSet.open(uri)`; everything below is from its index and receipts."""

    store: Store
    index: dict[str, Any]
    receipts: tuple[Receipt, ...]

    @classmethod
    def open(cls, uri: str) -> "FeatureSet":
        """Reads index and receipts; UserError if there is no finished feature set at the URI."""
        store = open_store(uri)
        try:
            index = json.loads(store.read(INDEX))
            receipts = tuple(Receipt.from_json(store.read(receipt_name(row["name"]))) for row in index["shards"])
        except FileNotFoundError as error:
            raise UserError(f"{uri}: no finished feature set here; run `python -m jobs.extract` to its end") from error
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{uri}: its {INDEX} is not one of ours ({error!r}); point at a feature set") from error
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
        receipts = tuple(r for r in self.receipts if r.shard.split("-")[1] == name and r.keys)
        if not receipts:
            raise UserError(f"{self.uri}: split '{name}' holds no photo; the data set needs at least one usable there")
        return Split(name, self.store, receipts)


@dataclass(frozen=True)
class Split:
    """The photos of one split, read by offset from the shards: nothing is held but their descriptions."""

    name: str
    store: Store
    receipts: tuple[Receipt, ...]

    @cached_property
    def _places(self) -> list[tuple[str, tuple[tuple[int, int], ...]]]:
        return [(tar_name(r.shard), offsets) for r in self.receipts for offsets in r.offsets]

    @cached_property
    def keys(self) -> list[str]:
        """Key of every photo, in order."""
        return [key for receipt in self.receipts for key in receipt.keys]

    @cached_property
    def meta(self) -> list[dict[str, Any]]:
        """Per photo: source, size, sha256, captions, classes and confidences of its regions."""
        return [json.loads(self.store.read(tar, *offsets[2])) for tar, offsets in self._places]

    @cached_property
    def captions(self) -> list[str]:
        """Every caption of the split, photo by photo."""
        return [caption for meta in self.meta for caption in meta["captions"]]

    @cached_property
    def photo_of_caption(self) -> NDArray[np.int64]:
        """For every caption, the row of its photo."""
        return np.repeat(np.arange(len(self)), [len(meta["captions"]) for meta in self.meta])

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, rows: slice | Sequence[int] | NDArray[np.integer]) -> NDArray[np.float16]:
        """Region features n x R x F of the chosen photos."""
        return np.stack([self._member(row, 0) for row in np.arange(len(self))[rows]])

    def boxes(self, row: int) -> NDArray[np.float32]:
        """Boxes R x 4 (xyxy, pixels) of one photo."""
        return self._member(row, 1)

    def _member(self, row: int, member: int) -> NDArray[Any]:
        tar, offsets = self._places[row]
        return load_npy(self.store.read(tar, *offsets[member]))


def write_index(store: Store, plan: FeatureSetPlan, manifest: Manifest, detector: dict[str, Any]) -> FeatureSet:
    """Checks that every planned photo is accounted for and writes `sizes.json`, then `index.json`.

    Raises RuntimeError if planned differs from written plus rejected.
    """
    receipts = tuple(Receipt.from_json(store.read(receipt_name(shard.name))) for shard in plan.shards)
    written, rejected = sum(len(r.keys) for r in receipts), sum(len(r.rejected) for r in receipts)
    if written + rejected != plan.photo_count:
        raise RuntimeError(f"{store.uri}: planned {plan.photo_count} photos, written {written}, rejected {rejected}")
    shards: list[dict[str, Any]] = [
        {"name": r.shard, "sha256": r.sha256, "bytes": r.size, "count": len(r.keys), "rejected": len(r.rejected)}
        for r in receipts
    ]
    index: dict[str, Any] = {
        "format": FORMAT,
        "dataset": manifest.name,
        "manifest": plan.manifest_digest,
        "fingerprint": plan.fingerprint,
        "detector": detector,
        "shards": shards,
    }
    index["feature_set"] = sha256(canonical_json(index)).hexdigest()
    index["photos"] = manifest.root  # where pages find the photos; moving them changes nothing, so not in the digest
    # webdataset's convention: the number of samples of every tar.
    _put(store, SIZES, canonical_json({tar_name(row["name"]): row["count"] for row in shards}))
    _put(store, INDEX, canonical_json(index))
    return FeatureSet.open(store.uri)


def write_manifest(store: Store, manifest: Manifest) -> None:
    """The first object of a feature set; UserError if the store cannot be written, before any work is done."""
    try:
        _put(store, MANIFEST, manifest.to_parquet())
    except OSError as error:
        raise UserError(f"{store.uri}: cannot be written ({error.strerror}); choose another extract.output") from error


def _put(store: Store, name: str, data: bytes) -> None:
    """Writes an object unless it is there with these bytes: a rerun of a finished extraction writes nothing."""
    try:
        if store.read(name) == data:
            return
    except FileNotFoundError:
        pass
    store.replace(name, data)
