"""Importer of the Karpathy JSON layout (`dataset_flickr30k.json`, `dataset_coco.json`, ...)."""

import json
from pathlib import Path
from typing import Any

from infra.errors import UserError
from pipelines.datasets.manifest import Manifest, Photo, escapes_root, safe_key
from pipelines.datasets.photo_sources import locate_photos

# By convention, the `restval` photos of COCO are training photos.
_SPLITS = {"train": "train", "restval": "train", "val": "val", "test": "test"}


def import_karpathy(dataset: Path, photos: str | Path) -> Manifest:
    """Returns the manifest of a Karpathy JSON file; `photos` is the folder, prefix URI or tar file of its photos.

    Raises UserError if the file or the photo root does not exist, if the layout is not valid, or if a photo is missing.
    """
    name, rows = karpathy_rows(dataset)
    return locate_photos(name, photos, rows)


def karpathy_rows(dataset: Path) -> tuple[str, list[Photo]]:
    """Returns name and rows of a Karpathy JSON file without looking for the photos.

    Raises UserError if the layout is not valid.
    """
    document = _read(dataset)
    images = document.get("images")
    if not isinstance(images, list):
        raise UserError(
            f"{dataset}: not in the Karpathy layout (`images` is not a list); see docs/how-to/prepare-a-data-set.md"
        )
    rows = [_row(dataset, number, image) for number, image in enumerate(images, 1)]
    return safe_key(str(document.get("dataset") or dataset.stem)), rows


def _read(dataset: Path) -> dict[str, Any]:
    try:
        document = json.loads(dataset.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise UserError(f"{dataset}: no such file; give a data set in the Karpathy JSON layout") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"{dataset}: not readable as JSON ({error}); give a Karpathy JSON file") from error
    if not isinstance(document, dict):
        raise UserError(
            f"{dataset}: not in the Karpathy layout (not a JSON object); see docs/how-to/prepare-a-data-set.md"
        )
    return document


def _row(dataset: Path, number: int, image: Any) -> Photo:
    """Returns the row of one entry of `images`, after checking each of its fields."""
    try:
        source = "/".join(filter(None, (image.get("filepath", ""), image["filename"])))
        captions = tuple(sentence["raw"].strip() for sentence in image["sentences"])
        split = _SPLITS.get(image["split"], str(image["split"]))
    except (KeyError, TypeError, AttributeError) as error:
        name = image.get("filename") if isinstance(image, dict) else image
        raise UserError(
            f"{dataset}: image {number} ({name!r}) is not in the Karpathy layout ({error}); "
            "it needs `filename`, `split` and `sentences` with `raw` text, see docs/how-to/prepare-a-data-set.md"
        ) from error
    if not source or "://" in source or escapes_root(source):
        raise UserError(
            f"{dataset}: image {number} ('{source}'): a photo's path must stay below the photo folder; correct the path"
        )
    return Photo(safe_key(source), source, split, captions)
