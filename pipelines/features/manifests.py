"""The manifest as an object of a feature set: every index refers to one by digest."""

from infra.errors import UserError
from infra.storage.base import Store
from pipelines.datasets.manifest import Manifest
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
