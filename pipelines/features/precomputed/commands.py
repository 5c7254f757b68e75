"""The work of `jobs.features import` and `export`: progress bars in photos, and a summary as text."""

from pathlib import Path
from typing import Literal

from tqdm import tqdm

from infra.errors import UserError
from pipelines.features.feature_set import FeatureSet
from pipelines.features.precomputed.export import export_scan
from pipelines.features.precomputed.scan import import_scan
from pipelines.features.precomputed.tsv import import_tsv
from pipelines.features.text_report import published_text


def import_features(
    kind: Literal["scan", "tsv"], path: Path, root: str, dataset: str | None, photos_per_shard: int
) -> str:
    """Imports `path` as a feature set below `root`, and returns its accounting and notes.

    `dataset` is the Karpathy JSON of a TSV, or the name of a SCAN folder's data set. Raises UserError if it is missing
    for a TSV.
    """
    if kind == "tsv" and not dataset:
        raise UserError("--dataset is missing; a TSV has no splits and captions, so pass their Karpathy JSON")
    with tqdm(desc="import", unit="photo") as bar:
        if kind == "tsv":
            imported = import_tsv(path, Path(str(dataset)), root, photos_per_shard, bar.update)
        else:
            imported = import_scan(path, root, dataset, photos_per_shard, bar.update)
    done = f"({imported.shards_written} written now, {imported.shards_reused} reused)"
    return "\n".join([published_text(imported.feature_set, done), *(f"  {note}" for note in imported.notes)])


def export_features(uri: str, folder: Path) -> str:
    """Exports the feature set at `uri` to SCAN's layout in `folder`, and returns its photos by split and notes."""
    features = FeatureSet.open(uri)
    with tqdm(total=features.index.photos_written, desc="export", unit="photo") as bar:
        exported = export_scan(features, folder, bar.update)
    photos = ", ".join(f"{count} {split}" for split, count in exported.photos.items())
    return "\n".join([f"{folder}: {photos} photos in SCAN's layout", *(f"  {note}" for note in exported.notes)])
