"""Imports a data set of any supported format; the file's ending, in any case, selects the importer."""

from pathlib import Path
from tempfile import TemporaryDirectory

from infra.errors import UserError
from infra.storage.open import open_store
from pipelines.datasets.karpathy import import_karpathy
from pipelines.datasets.manifest import Manifest
from pipelines.datasets.photo_sources import ARCHIVES, parent_and_name
from pipelines.datasets.spellings import existing_path
from pipelines.datasets.table import SUFFIXES, import_table


def import_dataset(dataset: str | Path, photos: str | Path) -> Manifest:
    """Returns the manifest of a Karpathy JSON file or a table.

    `dataset` is a path or a URI such as `s3://bucket/dataset.json`. `photos` is the folder, prefix URI or tar file that
    relative photo paths refer to. Raises UserError if the data set or a photo cannot be found or is not valid.
    """
    uri = str(dataset)
    if uri.lower().endswith((*ARCHIVES, ".tar")):
        raise UserError(f"data set {uri} is an archive or compressed; unpack it and give the file in it")
    if "://" not in uri:
        return _import_file(existing_path(Path(dataset)), photos)
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
    is_table = dataset.suffix.lower() in SUFFIXES
    return import_table(dataset, photos) if is_table else import_karpathy(dataset, photos)
