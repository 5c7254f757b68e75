"""Any data set that the project reads, by the ending of its file."""

from pathlib import Path

from pipelines.karpathy import import_karpathy
from pipelines.manifest import Manifest
from pipelines.table import SUFFIXES, import_table


def import_dataset(dataset: Path, photos: str | Path) -> Manifest:
    """The manifest of a Karpathy JSON or of a table; `photos` is the folder, prefix URI or tar of relative paths."""
    return import_table(dataset, photos) if dataset.suffix in SUFFIXES else import_karpathy(dataset, photos)
