"""Imports a data set of any supported format; the file's ending, in any case, selects the reader."""

from pathlib import Path
from tempfile import TemporaryDirectory

from infra.errors import UserError
from infra.paths import absolute
from infra.storage.disk import replace_file
from infra.storage.open import open_store
from pipelines.datasets.karpathy import karpathy_rows
from pipelines.datasets.manifest import Manifest, Photo
from pipelines.datasets.photo_sources import ARCHIVES, locate_photos, parent_and_name
from pipelines.datasets.spellings import existing_path
from pipelines.datasets.table import SUFFIXES, table_rows


def import_dataset(dataset: str | Path, photos: str | Path) -> Manifest:
    """Returns the manifest of a data set; `photos` is the folder, prefix URI or tar file of relative photo paths.

    Raises UserError as `dataset_rows`, and if a photo cannot be found.
    """
    name, rows = dataset_rows(dataset)
    return locate_photos(name, photos, rows)


def dataset_rows(dataset: str | Path) -> tuple[str, list[Photo]]:
    """Returns name and rows of a Karpathy JSON file or a table, without looking for the photos.

    `dataset` is a path or a URI such as `s3://bucket/dataset.json`. Raises UserError if it cannot be found or is not
    valid.
    """
    location = absolute(dataset, "data set")
    if location.lower().endswith((*ARCHIVES, ".tar")):
        raise UserError(f"data set {location} is an archive or compressed; unpack it and give the file in it")
    if location.startswith("/"):
        return _read(existing_path(Path(location)))
    parent, name = parent_and_name(location)
    with TemporaryDirectory() as folder:
        path = Path(folder, name)
        try:
            replace_file(path, open_store(parent).read(name))
        except (FileNotFoundError, IsADirectoryError) as error:
            raise UserError(f"{location}: no such file; check the URI of the data set") from error
        try:
            return _read(path)
        except UserError as error:
            raise UserError(str(error).replace(str(path), location)) from error


def _read(dataset: Path) -> tuple[str, list[Photo]]:
    return table_rows(dataset) if dataset.suffix.lower() in SUFFIXES else karpathy_rows(dataset)
