"""A share's partitions on its own disk, so that searches do not depend on the bucket of the index."""

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from infra.storage.base import Store
from infra.storage.folder import FolderStore
from infra.storage.pieces import object_pieces
from pipelines.search.index_format import IndexDocument
from pipelines.search.layout import KINDS, file_name
from pipelines.search.partition_reader import REQUESTS, corrupt, required
from pipelines.search.partition_writer import stored_file


def copy_partitions(store: Store, document: IndexDocument, partitions: Collection[str], folder: Path) -> Store:
    """Returns a store that has the objects of some partitions on this machine: a copy of those of a bucket.

    A folder is returned as it is: its files are memory-mapped, and only `jobs.index verify` reads all of their values.
    Raises CorruptDataError for an object that does not exist, and for files of a partition that have other bytes.
    """
    if isinstance(store, FolderStore):
        return store
    copy = FolderStore(folder)
    names = [
        name for name in document.objects() if name.split(".")[0] in partitions or KINDS["centroids"].fullmatch(name)
    ]

    files = {
        file_name(partition.name, kind): stored
        for gallery in document.galleries.values()
        for partition in gallery.partitions
        for kind, stored in partition.files.items()
    }

    def fetch(name: str) -> None:
        with required(store, name):
            copy.replace(name, object_pieces(store, name))
        if name in files and stored_file(copy, name) != files[name]:
            raise corrupt(store, name, "does not have the sha256 in the index")

    with ThreadPoolExecutor(REQUESTS) as pool:
        list(pool.map(fetch, names))
    return copy
