"""Reader of the Karpathy JSON format (`dataset_flickr30k.json`, `dataset_coco.json`, ...)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from infra.errors import UserError
from pipelines.datasets.row_table import Row


def karpathy_rows(path: Path, document: dict[str, Any]) -> Iterator[Row]:
    """Yields the images of a document. Raises UserError naming the first that is not valid."""
    for number, image in enumerate(document["images"], 1):
        yield _row(path, number, image)


def _row(path: Path, number: int, image: Any) -> Row:
    """Returns the row of one entry of `images`, after checking each of its fields."""
    try:
        source = "/".join(filter(None, (image.get("filepath", ""), image["filename"])))
        captions = tuple(sentence["raw"].strip() for sentence in image["sentences"])
        split = image["split"]
    except (KeyError, TypeError, AttributeError) as error:
        name = image.get("filename") if isinstance(image, dict) else image
        raise UserError(
            f"{path}: image {number} ({name!r}) is not in the Karpathy format ({error}); "
            "it needs `filename`, `split` and `sentences` with `raw` text, see docs/how-to/prepare-a-data-set.md"
        ) from error
    if not isinstance(split, str):
        raise UserError(f"{path}: image {number} ('{source}'): split is {split!r}; write train, val or test")
    if not source or "://" in source:
        raise UserError(
            f"{path}: image {number} ('{source}'): a photo's path must stay below the photo root; correct the path"
        )
    return Row(f"image {number}", source, captions, split, is_complete=True)
