"""Reader of a folder of images, or a prefix of a bucket, with all folders below it. The images have no captions."""

from collections.abc import Iterator

from infra.errors import UserError
from infra.log import log
from pipelines.datasets.names import IMAGE_ENDINGS
from pipelines.datasets.photo_sources import photo_uri
from pipelines.datasets.row_table import Row
from pipelines.datasets.rows import DatasetFile


def folder_rows(file: DatasetFile) -> Iterator[Row]:
    """Yields the images sorted by path. Prints how many other files are left out. Raises UserError for no image."""
    count, others, other, has_texts = 0, 0, "", False
    for name, token in file.listing or ():
        if name.lower().endswith(IMAGE_ENDINGS):
            count += 1
            location = f"{file.location.rstrip('/')}/{name}"
            source = file.below_root(location)
            found = token if photo_uri(file.photos, source) == location else ""  # else it is located later
            yield Row(f"image {count}", source, is_complete=True, version_token=found)
        else:
            others, other = others + 1, other or name
            has_texts = has_texts or name.lower().endswith((".txt", ".json"))
    if not count:
        raise UserError(
            f"{file.location}: no image in this folder (files that end in {', '.join(IMAGE_ENDINGS)}); give the folder "
            "that holds the images, or rename them"
        )
    if others:
        hint = "; no captions are read beside images: give a table or tars of them" if has_texts else ""
        log.info(
            f"{others} files in {file.location} are left out (first {other}): images end in "
            f"{', '.join(IMAGE_ENDINGS)}{hint}"
        )
