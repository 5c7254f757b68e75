"""The manifest as an object of a feature set: every index refers to one by digest."""

from collections.abc import Mapping
from functools import lru_cache

from infra.errors import UserError
from infra.storage.base import Store
from pipelines.datasets.manifest import Manifest
from pipelines.features.index import InvalidIndexError, read_index
from pipelines.features.layout import manifest_name


def write_manifest(store: Store, manifest: Manifest) -> None:
    """Writes the manifest, the first object of a feature set.

    Raises UserError if the store cannot be written, so that a job fails before it does any work.
    """
    try:
        store.put_if_absent(manifest_name(manifest.digest()), manifest.to_parquet())
    except OSError as error:
        raise UserError(f"{store.uri}: cannot be written ({error.strerror or error}); choose another output") from error


def read_manifest(store: Store, digest: str) -> Manifest:
    """Returns the manifest with a digest. Raises UserError if it is missing or corrupt."""
    uri = f"{store.uri}/{manifest_name(digest)}"
    try:
        manifest = Manifest.from_parquet(store.read(manifest_name(digest)), uri)
    except FileNotFoundError as error:
        raise UserError(f"{uri} does not exist; extract the data set again to write it") from error
    if manifest.digest() != digest:
        raise UserError(f"{uri} does not have the digest in its index; delete it and extract the data set again")
    return manifest


def require_dataset(store: Store, manifest: Manifest) -> None:
    """Raises UserError if the feature set in the store, whose index would be replaced, belongs to another data set.

    Another data set has another name, or none of its photos in common: one that has changed keeps some of them.
    """
    try:
        index = read_index(store)
    except (FileNotFoundError, NotADirectoryError, InvalidIndexError):
        return
    if index.dataset == manifest.name and _shares_photos(store, index.manifest, manifest):
        return
    raise UserError(
        f"{store.uri} belongs to another data set, '{index.dataset}' with other photos; give this data set "
        f"('{manifest.name}') a name of its own, or choose another output"
    )


def _shares_photos(store: Store, earlier: str, manifest: Manifest) -> bool:
    """Returns whether a manifest has a photo of an earlier one; True if the earlier one cannot be read."""
    if earlier == manifest.digest():
        return True
    try:
        keys = set(read_manifest(store, earlier).table["key"].to_pylist())
    except UserError:
        return True
    return not keys.isdisjoint(manifest.table["key"].to_pylist())


@lru_cache(maxsize=1)
def read_captions(store: Store, digest: str) -> Mapping[str, tuple[str, ...]]:
    """Returns the captions of every photo of a manifest by key. Raises UserError as `read_manifest`.

    The last result is kept, because every split of a feature set needs it and a manifest never changes.
    """
    return {photo.key: photo.captions for photo in read_manifest(store, digest).photos()}
