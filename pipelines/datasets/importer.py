"""Any data set that the project reads, by the ending of its file."""

from pathlib import Path
from tempfile import TemporaryDirectory

from infra.errors import UserError
from infra.storage.open import open_store
from pipelines.datasets.karpathy import import_karpathy
from pipelines.datasets.manifest import Manifest
from pipelines.datasets.photo_sources import parent_and_name
from pipelines.datasets.table import SUFFIXES, import_table


def import_dataset(dataset: str | Path, photos: str | Path) -> Manifest:
    """The manifest of a Karpathy JSON or of a table, a path or a URI such as `s3://bucket/dataset.json`.

    `photos` is the folder, prefix URI or tar of relative paths.
    """
    if "://" not in str(dataset):
        return _imported(Path(dataset), photos)
    uri = str(dataset)
    parent, name = parent_and_name(uri)
    with TemporaryDirectory() as folder:
        path = Path(folder, name)
        try:
            path.write_bytes(open_store(parent).read(name))
        except (FileNotFoundError, IsADirectoryError) as error:
            raise UserError(f"{uri}: no such file; name a data set that is there") from error
        try:
            return _imported(path, photos)
        except UserError as error:
            raise UserError(str(error).replace(str(path), uri)) from error


def _imported(dataset: Path, photos: str | Path) -> Manifest:
    return import_table(dataset, photos) if dataset.suffix in SUFFIXES else import_karpathy(dataset, photos)
