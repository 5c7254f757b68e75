"""The work of the commands of `jobs.features`: progress bars, and results as text."""

from pathlib import Path
from typing import Literal

from tqdm import tqdm

from infra.errors import UserError
from infra.storage.open import open_store, require_writable_file
from pipelines.features.feature_set import FeatureSet
from pipelines.features.html_report import write_page
from pipelines.features.orphans import delete_orphans, find_orphans
from pipelines.features.precomputed.export_scan import export_scan
from pipelines.features.precomputed.export_tsv import export_tsv
from pipelines.features.precomputed.scan import import_scan
from pipelines.features.precomputed.tsv import import_tsv
from pipelines.features.text_report import inspect_text, orphans_text, published_text
from pipelines.features.verify import Verification, verify


def verify_with_progress_bar(uri: str) -> Verification:
    """Reads and checks the feature set at `uri`."""
    with tqdm(desc="verify", unit="shard", total=0) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

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
    current one is an orphan.
    """
    store = open_store(uri)
    orphans = find_orphans(store, earlier_snapshots)
    lines = [orphans_text(store.uri, orphans)]
    if delete:
        items = [item for item in orphans.items if unfinished or item.name not in orphans.unfinished]
        delete_orphans(store, items)
        lines.append(f"{len(items)} objects deleted")
    elif orphans.items:
        lines.append("nothing was deleted; add --delete to delete them")
    return "\n".join(lines)


def import_features(
    kind: Literal["scan", "tsv"], path: Path, root: str, dataset: str | None, photos_per_shard: int
) -> str:
    """Imports `path` as a feature set below `root`, and returns its accounting and notes.

    `dataset` is the data set of a TSV, whose photos have no captions without one, or the name of a SCAN folder's.
    Raises UserError, before anything is read, if it is a file for a SCAN folder.
    """
    if photos_per_shard < 1:
        raise UserError(f"--photos-per-shard is {photos_per_shard}; it must be at least 1")
    if kind == "scan" and dataset and Path(dataset).is_file():
        raise UserError(f"--dataset '{dataset}' is a file; with --format scan it is the name of the data set")
    with tqdm(desc="import", unit="photo") as bar:
        if kind == "tsv":
            imported = import_tsv(path, dataset, root, photos_per_shard, bar.update)
        else:
            imported = import_scan(path, root, dataset, photos_per_shard, bar.update)
    done = f"({imported.shards_written} written now, {imported.shards_reused} reused)"
    return "\n".join([published_text(imported.feature_set, done), *(f"  {note}" for note in imported.notes)])


def export_features(uri: str, folder: Path, kind: Literal["scan", "tsv"]) -> str:
    """Exports the feature set at `uri` to files in `folder`, and returns its photos by split and notes."""
    export, layout = (export_scan, "in SCAN's layout") if kind == "scan" else (export_tsv, "as TSV")
    features = FeatureSet.open(uri)
    with tqdm(total=features.index.photos_written, desc="export", unit="photo") as bar:
        exported = export(features, folder, bar.update)
    photos = ", ".join(f"{count} {split}" for split, count in exported.photos.items())
    return "\n".join([f"{folder}: {photos} photos {layout}", *(f"  {note}" for note in exported.notes)])
