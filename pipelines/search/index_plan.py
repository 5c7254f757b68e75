"""The plan of an index: its partitions, which are a function of the feature sets and of the partition size.

A partition encodes consecutive shards of one split. Its name hashes them, so equal inputs give equal names, and a
feature set that grows keeps its partitions, except the last one of a split if that is not full.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import groupby
from typing import Any

from infra.canonical_json import canonical_json
from infra.errors import UserError
from infra.storage.base import Store
from infra.storage.open import open_store, require_folder
from infra.storage.replacement import Replacement
from pipelines.features.feature_set import FeatureSet
from pipelines.features.index import IndexedShard
from pipelines.features.layout import INDEX
from pipelines.models.load import LoadedModel, require_fingerprint
from pipelines.search.candidate_search import faiss
from pipelines.search.config import IndexConfig
from pipelines.search.data_sets import has_photos_of
from pipelines.search.index_format import find_index_document
from pipelines.search.layout import FORMAT, GALLERIES, file_name, partition_receipt_name
from pipelines.search.partition import Partition, read_partition_receipt
from pipelines.search.partition_reader import REQUESTS


@dataclass(frozen=True)
class PartitionTask:
    """A partition to encode."""

    name: str
    feature_set: int
    """Position of its feature set."""
    dataset: str
    shards: tuple[IndexedShard, ...]

    @property
    def gallery(self) -> str:
        """The gallery that the partition belongs to, taken from its name."""
        return self.name.split("-")[0]

    @property
    def split(self) -> str:
        """The split of its photos."""
        return self.shards[0].split

    def to_row(self) -> dict[str, Any]:
        """Returns the task as a row of Ray Data."""
        return {"task": json.dumps(asdict(self))}

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "PartitionTask":
        """Returns the task of a row."""
        fields = json.loads(row["task"])
        return cls(**fields | {"shards": tuple(IndexedShard(**shard) for shard in fields["shards"])})


def plan_partitions(
    feature_sets: Sequence[FeatureSet], gallery: str, photos_per_partition: int
) -> Iterator[PartitionTask]:
    """Yields the partitions of a gallery, by feature set, split and shard. Shards without photos are left out."""
    for number, features in enumerate(feature_sets):
        for split, shards in groupby(features.index.shards, key=lambda shard: shard.split):
            for position, group in enumerate(_groups(list(shards), photos_per_partition)):
                written = tuple(shard for shard in group if shard.written)
                if written:
                    content = [features.dataset, [(shard.name, shard.sha256) for shard in written]]
                    digits = sha256(json.dumps(content).encode()).hexdigest()[:8]
                    name = f"{gallery}-{split}-{position:06d}-{digits}"
                    yield PartitionTask(name, number, features.dataset, written)


def _groups(shards: Sequence[IndexedShard], photos_per_partition: int) -> Iterator[list[IndexedShard]]:
    """Groups shards. Rejected photos count, so that a photo that can be used later moves no boundary."""
    group: list[IndexedShard] = []
    photos = 0
    for shard in shards:
        planned = shard.written + shard.rejected
        if group and photos + planned > photos_per_partition:
            yield group
            group, photos = [], 0
        group.append(shard)
        photos += planned
    if group:
        yield group


def photos_of(tasks: Sequence[PartitionTask]) -> int:
    """Returns the number of photos that partitions encode; one in both galleries counts twice."""
    return sum(shard.written for task in tasks for shard in task.shards)


def require_one_gallery(feature_sets: Sequence[FeatureSet]) -> None:
    """Raises UserError unless the feature sets have one fingerprint and different data sets."""
    first = feature_sets[0]
    for features in feature_sets[1:]:
        if features.index.fingerprint != first.index.fingerprint:
            raise UserError(
                f"{features.uri} has features of {features.index.fingerprint} but {first.uri} has features of "
                f"{first.index.fingerprint}; an index needs feature sets of one detector"
            )
    datasets = [features.dataset for features in feature_sets]
    if repeated := next((name for name in datasets if datasets.count(name) > 1), None):
        raise UserError(
            f"--features has two feature sets of the data set '{repeated}'; give one of them, or extract the other "
            "one under a name of its own"
        )


def require_data_sets(store: Store, feature_sets: Sequence[FeatureSet], tasks: Sequence[PartitionTask]) -> None:
    """Raises UserError if the index in the store, which would be replaced, is of another data set of the same name.

    The same data set has its feature set at the same URI, or has some of the indexed partitions (it was moved) or
    photos (it has other shards).
    """
    document = find_index_document(store)
    if document is None:
        return
    indexed = {partition.name for partition in document.receipts().values()}
    kept = {task.dataset for task in tasks if task.name in indexed}
    location = {features.dataset: features.location for features in document.features}
    for features in feature_sets:
        if features.uri == location[features.dataset] or features.dataset in kept:
            continue
        if not has_photos_of(store, document, features):
            raise UserError(
                f"{store.uri} is the index of another data set named '{features.dataset}', "
                f"{location[features.dataset]}; extract {features.uri} under a name of its own, or choose another "
                "index.output"
            )


@dataclass(frozen=True)
class IndexPlan:
    """The partitions of an index, and those that are complete."""

    store: Store
    published: Replacement
    """The index as it was when the plan was made."""
    tasks: Sequence[PartitionTask]
    complete: Mapping[str, Partition]
    """By name."""

    @property
    def missing(self) -> list[PartitionTask]:
        """Partitions that are yet to be encoded."""
        return [task for task in self.tasks if task.name not in self.complete]

    def is_published(self) -> bool:
        """Returns whether the stored index has these partitions."""
        document = find_index_document(self.store)
        return document is not None and {found.name for found in document.receipts().values()} == {
            task.name for task in self.tasks
        }


def plan_index(model: LoadedModel, feature_sets: Sequence[FeatureSet], config: IndexConfig) -> IndexPlan:
    """Returns the plan of the index of feature sets by a model. Nothing is written.

    Galleries that the index there has are planned beside those that the settings ask for.
    Raises UserError if the feature sets are not those of the model or cannot form one gallery, if the index there is
    of other data sets, and without FAISS.
    """
    require_folder(config.output, "index.output")
    require_one_gallery(feature_sets)
    for features in feature_sets:
        require_fingerprint(model, features)
    faiss()
    name = index_name(model, feature_sets, config)
    store = open_store(f"{config.output.rstrip('/')}/{name}")
    published = Replacement.of(store, INDEX)
    document = find_index_document(store)
    present = () if document is None else tuple(document.galleries)
    tasks = [
        task
        for name in GALLERIES
        if name in (*config.wanted, *present)
        for task in plan_partitions(feature_sets, name, config.photos_per_partition)
    ]
    require_data_sets(store, feature_sets, tasks)
    return IndexPlan(store, published, tasks, find_complete(store, tasks))


def index_name(model: LoadedModel, feature_sets: Sequence[FeatureSet], config: IndexConfig) -> str:
    """Returns the folder of an index, `<data sets>-<12 hex>`.

    The hex digits hash the format, the model, the names of the data sets, the partition size, and the type of the
    vectors unless it is float16. Another version of a model has an index beside that of the first; a feature set that
    has grown extends its index.
    """
    datasets = sorted(features.dataset for features in feature_sets)
    kind = [] if config.vector_type == "float16" else [config.vector_type]
    identity = [FORMAT, model.digest, model.fingerprint, datasets, config.photos_per_partition, *kind]
    content = canonical_json({"identity": identity})
    shown = re.sub(r"[^\w.-]+", "-", "-".join(datasets))[:80]
    return f"{shown}-{sha256(content).hexdigest()[:12]}"


def find_complete(store: Store, tasks: Sequence[PartitionTask]) -> dict[str, Partition]:
    """Returns the complete partitions: those with a valid receipt whose files have their sizes."""
    listed = {name: info.size for name, info in store.scan()}
    with ThreadPoolExecutor(REQUESTS) as pool:
        names = [task.name for task in tasks if partition_receipt_name(task.name) in listed]
        receipts = list(pool.map(lambda name: read_partition_receipt(store, name), names))
    return {
        found.name: found
        for found in receipts
        if found is not None
        and all(listed.get(file_name(found.name, file)) == stored.size for file, stored in found.files.items())
    }
