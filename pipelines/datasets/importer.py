"""Imports a data set of any supported format; the file's suffix selects the importer."""

from pathlib import Path
from tempfile import TemporaryDirectory

from infra.errors import UserError
from infra.storage.open import open_store
from pipelines.datasets.karpathy import import_karpathy
from pipelines.datasets.manifest import Manifest
from pipelines.datasets.photo_sources import parent_and_name
from pipelines.datasets.table import SUFFIXES, import_table


def import_dataset(dataset: str | Path, photos: str | Path) -> Manifest:
    """Returns the manifest of a Karpathy JSON file or a table.

    `dataset` is a path or a URI such as `s3://bucket/dataset.json`. `photos` is the folder, prefix URI or tar file that
    relative photo paths refer to. Raises UserError if the data set or a photo cannot be found or is not valid.
    """
    if "://" not in str(dataset):
        return _import_file(Path(dataset), photos)
    uri = str(dataset)
    parent, name = parent_and_name(uri)
    with TemporaryDirectory() as folder:
        path = Path(folder, name)
        try:
            path.write_bytes(open_store(parent).read(name))
        except (FileNotFoundError, IsADirectoryError) as error:
            raise UserError(f"{uri}: no such file; check the URI of the data set") from error
        try:
            return _import_file(path, photos)
        except UserError as error:
            raise UserError(str(error).replace(str(path), uri)) from error


def _import_file(dataset: Path, photos: str | Path) -> Manifest:
    return import_table(dataset, photos) if dataset.suffix in SUFFIXES else import_karpathy(dataset, photos)
