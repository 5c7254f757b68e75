"""What a feature set's folder holds that no index names, and its removal. Only for a folder where nobody writes.

Only names of our own making are ever garbage. A shard of an extraction that is not finished is complete work that no
index names yet; whoever lists garbage says so.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from infra.errors import UserError
from infra.storage.base import Store
from pipelines.features.feature_set import INDEX, SIZES, manifest_name, read_index
from pipelines.features.quarantine import QUARANTINE
from pipelines.features.shards import SHARD_NAME, receipt_name, tar_name

_HEX = "[0-9a-f]{12}"
_KINDS = {
    "snapshot": re.compile(rf"snapshot-{_HEX}\.json"),
    "receipt": re.compile(rf"{SHARD_NAME.pattern}\.receipt\.json"),
    "tar": re.compile(rf"{SHARD_NAME.pattern}\.tar"),
    "manifest": re.compile(rf"manifest-{_HEX}\.parquet"),
}
"""In the order of removal: no index outlives what it names, and no receipt the tar that it vouches for."""


@dataclass(frozen=True)
class OrphanedObject:
    """An object that no index names, or an incomplete upload of a killed writer."""

    kind: str
    """`snapshot`, `receipt`, `tar`, `manifest` or `unfinished`."""
    name: str
    size: int | None
    """Bytes; None where the store does not say (unfinished writes)."""


@dataclass(frozen=True)
class Orphans:
    """What can go from a store, in the order in which it has to."""

    items: tuple[OrphanedObject, ...]
    complete_shards: int
    """Of the items: tars with their receipts, of an extraction that is unfinished or was replaced by a later one."""
    work: frozenset[str]
    """Of the items: tars and receipts of complete shards that no index names, past ones included: an extraction that
    was not finished yet needs them."""
    foreign: int
    """Objects whose names are not ours; they are left alone."""

    @property
    def size(self) -> int:
        """Bytes of the items, as far as the store says."""
        return sum(item.size or 0 for item in self.items)


def find_orphans(store: Store, earlier_snapshots: bool) -> Orphans:
    """What no index names; with `earlier_snapshots` what `index.json` alone does not name, past indexes included.

    UserError if there is no index, or one that cannot be read: nothing could be told from garbage then.
    """
    listed = store.objects()
    indexes = [name for name in listed if name == INDEX or _KINDS["snapshot"].fullmatch(name)]
    living = [name for name in indexes if name == INDEX or not earlier_snapshots]
    if not living:
        raise UserError(
            f"{store.uri}: no {INDEX} here, so nothing tells garbage from work; run `python -m jobs.extract` to its "
            "end first, or remove the whole folder"
        )
    kept = _named_by(store, living)
    kinds = {name: _kind(name) for name in listed}
    items = [
        OrphanedObject(kind, name, listed[name].size)
        for kind in _KINDS
        for name, its_kind in kinds.items()
        if its_kind == kind and name not in kept
    ]
    items += [OrphanedObject("unfinished", name, None) for name in store.incomplete_uploads()]
    tars = {item.name.removesuffix(".tar") for item in items if item.kind == "tar"}
    complete = {shard for shard in tars if receipt_name(shard) in listed}
    unnamed = {name for shard in complete for name in (tar_name(shard), receipt_name(shard))} - _named_by(
        store, indexes
    )
    foreign = sum(kind is None and name not in kept for name, kind in kinds.items())
    return Orphans(tuple(items), len(complete), frozenset(unnamed), foreign)


def remove(store: Store, items: Sequence[OrphanedObject]) -> None:
    """Deletes what `find_orphans` found, in its order; killed half-way, the rest is found again."""
    for item in items:
        if item.kind != "unfinished":
            store.delete(item.name)
    store.abort_incomplete_uploads()


def _kind(name: str) -> str | None:
    return next((kind for kind, pattern in _KINDS.items() if pattern.fullmatch(name)), None)


def _named_by(store: Store, indexes: Iterable[str]) -> set[str]:
    """Every object that these indexes need, themselves included."""
    kept = {SIZES, QUARANTINE}
    for name in indexes:
        try:
            kept |= {name, *_names(read_index(store, name))}
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{store.uri}/{name}: is not one of ours or damaged ({error!r}), so nobody knows what it names; "
                "restore it or remove it by hand"
            ) from error
    return kept


def _names(index: dict[str, Any]) -> list[str]:
    shards = [row["name"] for row in index["shards"]]
    own = [f"snapshot-{index['feature_set'][:12]}.json", manifest_name(index["manifest"])]
    return [*map(tar_name, shards), *map(receipt_name, shards), *own]
