"""Orphaned objects: what a feature set's folder contains and no index refers to. Run it only while no job writes there.

Only objects with names of the layout can be orphans. A complete shard of an unfinished extraction is one too, although
it is finished work: the report counts such shards apart, and they are deleted only on request.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from infra import failures
from infra.errors import UserError
from infra.source_tree import program
from infra.storage.base import Store
from pipelines.features.index import FeatureSetIndex, InvalidIndexError, read_index
from pipelines.features.layout import (
    CARD,
    INDEX,
    KINDS,
    QUARANTINE,
    REPORT,
    SIZES,
    complete_parts,
    complete_shards,
    kind_of,
    manifest_name,
    receipt_name,
    shard_of_part,
    snapshot_name,
    tar_name,
)


@dataclass(frozen=True)
class OrphanedObject:
    """An object that no index refers to, or an incomplete upload of a killed writer."""

    kind: str
    """`snapshot`, `receipt`, `tar`, `attempts`, `manifest` or `incomplete`."""
    name: str
    size: int | None
    """Bytes; None for an incomplete upload."""


@dataclass(frozen=True)
class Orphans:
    """The orphaned objects of a store, in the order in which they may be deleted."""

    items: tuple[OrphanedObject, ...]
    complete_shards: int
    """Shards, and parts of unfinished shards, among the items that have both tar and receipt."""
    unfinished: frozenset[str]
    """Names of the items that are complete shards to which no index or snapshot refers: tars and receipts of an
    extraction that was not finished, which will reuse them.
    """
    foreign: int
    """Objects whose names are not part of the layout. They are never touched."""


def find_orphans(store: Store, earlier_snapshots: bool) -> Orphans:
    """Returns the objects to which neither the index nor a snapshot refers.

    `earlier_snapshots`: only the current index counts, so earlier snapshots and what only they refer to are orphans
    too. Raises UserError if there is no index, or if one cannot be parsed: orphans cannot be determined then.
    """
    listed = store.objects()
    indexes = [name for name in listed if name == INDEX or kind_of(name) == "snapshot"]
    counting = [name for name in indexes if name == INDEX or not earlier_snapshots]
    if not counting:
        raise UserError(
            f"{store.uri}: no {INDEX} here, so orphaned objects cannot be determined; run `{program('extract')}` to "
            "its end first, or delete the folder"
        )
    kept = _referenced(store, counting)
    items = [
        OrphanedObject(kind, name, listed[name].size)
        for kind in KINDS
        for name in listed
        if kind_of(name) == kind and name not in kept
    ]
    items += [OrphanedObject("incomplete", name, None) for name in store.incomplete_uploads()]
    orphaned = {item.name for item in items}
    shards = complete_shards(listed)
    # A part of a complete shard is left over; one of an unfinished shard is finished work.
    finished = [*shards, *(part for part in complete_parts(listed) if shard_of_part(part) not in set(shards))]
    complete = [shard for shard in finished if tar_name(shard) in orphaned]
    objects = {name for shard in complete for name in (tar_name(shard), receipt_name(shard))}
    foreign = sum(kind_of(name) is None and name not in kept for name in listed)
    return Orphans(tuple(items), len(complete), frozenset(objects - _referenced(store, indexes)), foreign)


def delete_orphans(store: Store, items: Sequence[OrphanedObject]) -> None:
    """Deletes what `find_orphans` returned, in its order. After an interruption the rest is found again."""
    for item in items:
        if item.kind != "incomplete":
            store.delete(item.name)
    store.abort_incomplete_uploads()


def _referenced(store: Store, indexes: Iterable[str]) -> set[str]:
    """Returns every object that these indexes need, and their own names."""
    names = {SIZES, QUARANTINE, CARD, REPORT, failures.OBJECT}
    for name in indexes:
        try:
            names |= {name, *_objects_of(read_index(store, name))}
        except InvalidIndexError as error:
            raise UserError(
                f"{store.uri}/{name} cannot be parsed ({error.reason}), so orphaned objects cannot be determined; "
                "restore it from a backup, or delete it"
            ) from error
    return names


def _objects_of(index: FeatureSetIndex) -> list[str]:
    shards = [shard.name for shard in index.shards]
    own = [snapshot_name(index.feature_set), manifest_name(index.manifest)]
    return [*map(tar_name, shards), *map(receipt_name, shards), *own]
