"""A published feature set: its index, its receipts and its splits."""

import functools
from dataclasses import dataclass
from functools import cached_property

from infra.errors import CorruptDataError, UserError
from infra.log import log
from infra.source_tree import program
from infra.storage.base import Store
from pipelines.features.index import FeatureSetIndex, read_index
from pipelines.features.layout import nothing_at, resolve_uri, tar_name
from pipelines.features.photo_table import PhotoTable
from pipelines.features.receipt import Rejection
from pipelines.features.shard_reader import StoredShards
from pipelines.features.split import Split
from pipelines.features.stored_receipts import StoredReceipts


class MissingFeatureSetError(UserError):
    """A URI has no published feature set."""


@dataclass(frozen=True)
class FeatureSet:
    """A published feature set. `FeatureSet.open(uri)` opens one."""

    store: Store
    index: FeatureSetIndex

    @classmethod
    def open(cls, uri: str) -> "FeatureSet":
        """Reads the index. `<uri>@<12 hex>` opens the snapshot with that digest.

        Raises MissingFeatureSetError if the URI has no published feature set, and CorruptDataError if the index has
        another format version or is corrupt. A corrupt receipt is a CorruptDataError where it is read.
        """
        store, name = resolve_uri(uri)
        try:
            index = read_index(store, name)
        except FileNotFoundError as error:
            raise MissingFeatureSetError(nothing_at(uri, "no finished feature set here", "extract")) from error
        if index.compute_digest() != index.feature_set:
            raise CorruptDataError(
                f"{uri}: the index is corrupt; run `{program('features')} verify` to list every corrupt object"
            )
        return cls(store, index)

    @property
    def receipts(self) -> StoredReceipts:
        """The receipt of every shard, in the order of the index, read where it is needed."""
        return StoredReceipts(self.store, self.index.shards)

    @property
    def uri(self) -> str:
        """URI without a digest."""
        return self.store.uri

    @property
    def pinned_uri(self) -> str:
        """`<uri>@<12 hex>`, which opens this index even after the feature set was extended."""
        return f"{self.uri}@{self.index.feature_set[:12]}"

    @property
    def dataset(self) -> str:
        """Name of the data set."""
        return self.index.dataset

    @property
    def lineage(self) -> dict[str, str]:
        """Digests that runs and registered models record: `manifest`, `fingerprint` and `feature_set`."""
        index = self.index
        return {"manifest": index.manifest, "fingerprint": index.fingerprint, "feature_set": index.feature_set}

    @cached_property
    def rejected(self) -> tuple[Rejection, ...]:
        """Every planned photo that could not be used, with the reason."""
        some = tuple(shard for shard in self.index.shards if shard.rejected)
        return tuple(row for receipt in StoredReceipts(self.store, some) for row in receipt.rejected)

    def split(self, name: str) -> "Split":
        """Returns the photos of a split. Raises UserError if it has none."""
        shards = tuple(shard for shard in self.index.shards if shard.split == name and shard.written)
        if not shards:
            others = ", ".join({shard.split: None for shard in self.index.shards if shard.written})
            raise UserError(
                f"{self.uri}: split '{name}' has no photo; add usable photos to it and extract again"
                + (f", or choose another one: {others}" if others else "")
            )
        stored = StoredShards(self.store, {tar_name(shard.name): shard.sha256 for shard in shards})
        photos = PhotoTable.read(shards, StoredReceipts(self.store, shards))
        return Split(name, self.store, photos, self.index.manifest, stored)

    def captioned(self, name: str) -> "Split":
        """Returns the photos of a split that have captions, as training and evaluation need them.

        Prints how many have none. Raises UserError if none has any.
        """
        split = self.split(name)
        captioned = split.captioned()
        if not len(captioned):
            raise UserError(f"{self.uri}: no photo of split '{name}' has captions; add some and extract again")
        if len(captioned) < len(split):
            _print_once(
                f"split '{name}' of {self.uri}: {len(captioned)} of {len(split)} photos have captions, the others are "
                "left out"
            )
        return captioned


@functools.cache
def _print_once(text: str) -> None:
    """Prints for the first of several readers only."""
    log.info(text)
