"""Whether two search indexes are of the same data sets. Names do not decide: two data sets may have the same."""

from infra.storage.base import Store
from pipelines.features.feature_set import FeatureSet
from pipelines.search.index_format import IndexDocument
from pipelines.search.partition import Partition
from pipelines.search.partition_reader import read_table


def has_same_data_sets(one_store: Store, one: IndexDocument, other_store: Store, other: IndexDocument) -> bool:
    """Returns whether two indexes, of whatever models and detectors, are of the same data sets.

    A data set is the same if it has the same name, and its feature set lies at the same URI, or the indexes have a
    partition in common, or a photo: the same source below the same photo root. Raises UserError or OSError if the
    photos cannot be read.
    """
    ours, theirs = ({features.dataset: features for features in index.features} for index in (one, other))
    if ours.keys() != theirs.keys():
        return False
    shared = one.receipts().keys() & other.receipts().keys()
    kept = {one.receipts()[name].dataset for name in shared}
    return all(
        ours[name].location == theirs[name].location
        or name in kept
        or (
            ours[name].photo_root == theirs[name].photo_root and _share_photos(one_store, one, other_store, other, name)
        )
        for name in ours
    )


def has_photos_of(store: Store, document: IndexDocument, features: FeatureSet) -> bool:
    """Returns whether an index has photos of a feature set of the same name: the same source below the same photo root.

    Compared are the first partition and the first shard of each split. Raises as `has_same_data_sets`.
    """
    roots = {indexed.dataset: indexed.photo_root for indexed in document.features}
    if roots[features.dataset] != features.index.photo_root:
        return False
    first: dict[str, int] = {}
    for number, shard in enumerate(features.index.shards):
        if shard.written:
            first.setdefault(shard.split, number)
    indexed = _first_sources(store, document, features.dataset)
    return any(
        photo.source in indexed[split]
        for split, number in first.items()
        if split in indexed
        for photo in features.receipts[number].written
    )


def _share_photos(one_store: Store, one: IndexDocument, other_store: Store, other: IndexDocument, name: str) -> bool:
    """Returns whether the first partitions of the splits of a data set have a photo in common.

    Photos that are added come last, so the first partitions keep theirs.
    """
    theirs = _first_sources(other_store, other, name)
    return any(sources & theirs.get(split, set()) for split, sources in _first_sources(one_store, one, name).items())


def _first_sources(store: Store, document: IndexDocument, name: str) -> dict[str, set[str]]:
    """Returns the sources of the photos of the first partition of each split of a data set, by split."""
    first: dict[str, Partition] = {}
    for gallery in document.galleries.values():
        for partition in gallery.partitions:
            if partition.dataset == name:
                first.setdefault(partition.split, partition)
    return {split: set(read_table(store, found)["source"].to_pylist()) for split, found in first.items()}
