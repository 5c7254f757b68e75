"""Orphaned objects of a search index: what its folder contains and no index refers to. Run it while no build runs."""

from collections.abc import Iterable
from dataclasses import dataclass

from infra import failures
from infra.errors import UserError
from infra.source_tree import program
from infra.storage.base import Store
from pipelines.features.layout import INDEX, snapshot_name
from pipelines.features.orphans import OrphanedObject
from pipelines.search.index_format import InvalidSearchIndexError, parse_document
from pipelines.search.layout import KINDS, partition_of


@dataclass(frozen=True)
class IndexOrphans:
    """The orphaned objects of an index, in the order in which they may be deleted."""

    items: tuple[OrphanedObject, ...]
    unfinished: frozenset[str]
    """Names of the items that belong to complete partitions of a build that was not finished, which will reuse them."""
    foreign: int
    """Objects whose names are not part of the format. They are never touched."""


def find_index_orphans(store: Store, earlier_snapshots: bool) -> IndexOrphans:
    """Returns the objects to which neither the index nor a snapshot refers.

    `earlier_snapshots`: only the current index counts. Raises UserError if an index is missing or corrupt.
    """
    listed = {name: info.size for name, info in store.objects().items()}
    snapshots = [name for name in listed if KINDS["snapshot"].fullmatch(name)]
    if INDEX not in listed:
        raise UserError(
            f"{store.uri}: no {INDEX} of a search index here, so orphaned objects cannot be determined; run "
            f"`{program('index')}` to its end first, or delete the folder"
        )
    current, all_of_them = _referenced(store, [INDEX]), _referenced(store, [INDEX, *snapshots])
    kept = current if earlier_snapshots else all_of_them
    kinds = {name: next((kind for kind, names in KINDS.items() if names.fullmatch(name)), None) for name in listed}
    items = [
        OrphanedObject(kind, name, size)
        for kind in KINDS
        for name, size in listed.items()
        if kinds[name] == kind and name not in kept
    ]
    items += [OrphanedObject("incomplete", name, None) for name in store.incomplete_uploads()]
    orphaned = {item.name for item in items}
    receipts = {name for name in orphaned if kinds.get(name) == "receipt"} - all_of_them
    partitions = {partition_of(name) for name in receipts}
    unfinished = {name for name in orphaned if partition_of(name) in partitions} - all_of_them
    foreign = sum(kinds[name] is None and name not in kept for name in listed)
    return IndexOrphans(tuple(items), frozenset(unfinished), foreign)


def _referenced(store: Store, names: Iterable[str]) -> set[str]:
    """Returns every object that these indexes need, and their own names."""
    found = {failures.OBJECT}
    for name in names:
        try:
            document = parse_document(store.read(name), f"{store.uri}/{name}")
        except InvalidSearchIndexError as error:
            raise UserError(
                f"{store.uri}/{name} cannot be parsed ({error.reason}), so orphaned objects cannot be determined; "
                "restore it from a backup, or delete it"
            ) from error
        found |= {name, snapshot_name(document.index), *document.objects(), *document.receipts()}
    return found
