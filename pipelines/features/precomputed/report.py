"""What `jobs.features import` and `export` print."""

from pathlib import Path

from pipelines.features.precomputed.export import Exported
from pipelines.features.precomputed.shard_import import Imported
from pipelines.features.text_report import published_text


def imported_text(imported: Imported) -> str:
    """Returns the accounting of an import, and its notes."""
    done = f"({imported.shards_written} written now, {imported.shards_reused} reused)"
    return "\n".join([published_text(imported.feature_set, done), *(f"  {note}" for note in imported.notes)])


def exported_text(folder: Path, exported: Exported) -> str:
    """Returns the photos of an export by split, and its notes."""
    photos = ", ".join(f"{count} {split}" for split, count in exported.photos.items())
    return "\n".join([f"{folder}: {photos} photos in SCAN's layout", *(f"  {note}" for note in exported.notes)])
