"""Photos that the planning of an extraction does not find: a few are rejected, many are an error before any work."""

from infra.errors import UserError
from pipelines.datasets.locate_photos import missing_rows
from pipelines.datasets.manifest import Manifest

_NAMES = 10
"""Photos that the error names."""


def check_missing_photos(manifest: Manifest, cap: float) -> None:
    """Raises UserError if all photos, or more than the fraction `cap` of them, do not exist.

    Web servers and tars are not queried in advance, so their photos count as existing.
    """
    missing = missing_rows(manifest.table, manifest.root)
    total = manifest.table.num_rows
    if not len(missing) or (len(missing) <= cap * total and len(missing) < total):
        return
    limit = "all of them" if len(missing) == total else f"more than extract.max_rejected ({cap:g} of them)"
    fix = "" if len(missing) == total else ", or raise extract.max_rejected"
    names = ", ".join(photo.source for photo in manifest.rows(missing[:_NAMES])) + (
        ", ..." if len(missing) > _NAMES else ""
    )
    raise UserError(
        f"{manifest.root}: {len(missing)} of {total} photos of data set {manifest.name} do not exist, {limit}: {names}"
        f"; give the right photo folder, or remove them from the data set{fix}"
    )
