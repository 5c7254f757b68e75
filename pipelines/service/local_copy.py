"""A share's partitions on its own disk, so that searches do not depend on the bucket of the index."""

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from infra.storage.base import Store
from infra.storage.folder import FolderStore
from infra.storage.pieces import object_pieces
from pipelines.search.index_format import IndexDocument
from pipelines.search.layout import KINDS
from pipelines.search.partition_reader import REQUESTS, required


def copy_partitions(store: Store, document: IndexDocument, partitions: Collection[str], folder: Path) -> Store:
    """Returns a store that has the objects of some partitions on this machine: a copy of those of a bucket.

    A folder is returned as it is: its files are memory-mapped. What was copied is verified when the index is opened.
    Raises CorruptDataError for an object that does not exist.
    """
    if isinstance(store, FolderStore):
        return store
    copy = FolderStore(folder)
    names = [
        name for name in document.objects() if name.split(".")[0] in partitions or KINDS["centroids"].fullmatch(name)
    ]

    def fetch(name: str) -> None:
        with required(store, name):
            copy.replace(name, object_pieces(store, name))

    with ThreadPoolExecutor(REQUESTS) as pool:
        list(pool.map(fetch, names))
    return copy
