"""The work of the commands of `jobs.features`: progress bars, and results as text."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

from infra.errors import UserError
from infra.progress import ProgressBar, counted_bar
from infra.storage.base import Store
from infra.storage.open import require_writable_file
from pipelines.datasets.importer import DatasetFiles
from pipelines.features.feature_set import FeatureSet
from pipelines.features.html_report import write_page
from pipelines.features.layout import open_all_snapshots
from pipelines.features.orphans import OrphanedObject, delete_orphans, find_orphans
from pipelines.features.precomputed.export_scan import export_scan
from pipelines.features.precomputed.export_tsv import export_tsv
from pipelines.features.precomputed.scan import import_scan
from pipelines.features.precomputed.tsv import import_tsv
from pipelines.features.text_report import inspect_text, orphans_text, published_text
from pipelines.features.verify import Verification, verify

FeatureFormat = Literal["scan", "tsv"]
"""SCAN's folder of arrays, or bottom-up-attention TSV."""


def verify_with_progress_bar(uri: str) -> Verification:
    """Reads and checks the feature set at `uri`."""
    with counted_bar("verify", "shard") as show:
        return verify(uri, show)


def inspect_features(uri: str, page: Path) -> str:
    """Writes the content of the feature set at `uri` as an HTML page, and returns it as text."""
    require_writable_file(page, "--page")
    features = FeatureSet.open(uri)
    text = inspect_text(features)
    write_page(page, features)
    return f"{text}\npage: {page}"


def clean_up(uri: str, delete: bool, unfinished: bool, earlier_snapshots: bool) -> str:
    """Lists the orphaned objects of the feature set at `uri`, deletes them with `delete`, and returns both as text.

    Shards of unfinished extractions are deleted only with `unfinished`; with `earlier_snapshots` every snapshot but the
    current one is an orphan. Raises UserError for a snapshot.
    """
    store = open_all_snapshots(uri)
    orphans = find_orphans(store, earlier_snapshots)
    kept = frozenset[str]() if unfinished else orphans.unfinished
    return f"{orphans_text(store.uri, orphans)}{delete_listed(store, orphans.items, kept, delete)}"


def delete_listed(store: Store, items: Sequence[OrphanedObject], kept: Collection[str], delete: bool) -> str:
    """Deletes the orphaned objects but those to keep, if `delete`. Returns a line about it; empty without objects."""
    if delete:
        deleted = [item for item in items if item.name not in kept]
        delete_orphans(store, deleted)
        return f"\n{len(deleted)} objects deleted"
    return "\nnothing was deleted; add --delete to delete them" if items else ""


def import_features(
    feature_format: FeatureFormat,
    path: Path,
    root: str,
    dataset: DatasetFiles | None,
    dataset_name: str | None,
    photos_per_shard: int,
) -> str:
    """Imports `path` as a feature set below `root`, and returns its accounting and notes.

    `dataset` has the splits and captions of a TSV, without which its photos are in the split `gallery`; `dataset_name`
    names the data set of a SCAN folder. Raises UserError, before it reads anything, for one that has no effect.
    """
    if photos_per_shard < 1:
        raise UserError(f"--photos-per-shard is {photos_per_shard}; it must be at least 1")
    if feature_format == "scan" and dataset is not None:
        raise UserError(
            "--dataset has no effect with --feature-format scan, whose folder has splits and captions; omit it"
        )
    if feature_format == "tsv" and dataset_name is not None:
        raise UserError(
            "--dataset-name has no effect with --feature-format tsv; --dataset gives the name, or else PATH"
        )
    with ProgressBar(desc="import", unit="photo") as bar:
        if feature_format == "tsv":
            imported = import_tsv(path, dataset, root, photos_per_shard, bar.update)
        else:
            imported = import_scan(path, root, dataset_name, photos_per_shard, bar.update)
    done = f"({imported.shards_written} written now, {imported.shards_reused} reused)"
    return "\n".join([published_text(imported.feature_set, done), *(f"  {note}" for note in imported.notes)])


def export_features(uri: str, folder: Path, feature_format: FeatureFormat) -> str:
    """Exports the feature set at `uri` to files in `folder`, and returns its photos by split and notes."""
    export, written = (export_scan, "in SCAN's format") if feature_format == "scan" else (export_tsv, "as TSV")
    features = FeatureSet.open(uri)
    with ProgressBar(total=features.index.photos_written, desc="export", unit="photo") as bar:
        exported = export(features, folder, bar.update)
    photos = ", ".join(f"{count} {split}" for split, count in exported.photos.items())
    return "\n".join([f"{folder}: {photos} photos {written}", *(f"  {note}" for note in exported.notes)])
