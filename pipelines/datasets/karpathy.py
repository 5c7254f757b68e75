"""Importer of the Karpathy JSON layout (`dataset_flickr30k.json` and its kin) to a manifest."""

import json
from pathlib import Path
from typing import Any

from infra.errors import UserError
from pipelines.datasets.manifest import Manifest, Photo, escapes_root, safe_key
from pipelines.datasets.photo_sources import locate_photos

# COCO's `restval` photos train by convention.
_SPLITS = {"train": "train", "restval": "train", "val": "val", "test": "test"}


def import_karpathy(dataset: Path, photos: str | Path) -> Manifest:
    """The manifest of a Karpathy JSON; `photos` is the folder, prefix URI or tar that holds its photos.

    Raises UserError if either is missing, the JSON is not in the layout, or a photo it names is not in the folder.
    """
    name, rows = karpathy_rows(dataset)
    return locate_photos(name, photos, rows)


def karpathy_rows(dataset: Path) -> tuple[str, list[Photo]]:
    """Name and rows of a Karpathy JSON, without a look for the photos. UserError if it is not in the layout."""
    document = _read(dataset)
    images = document.get("images")
    if not isinstance(images, list):
        raise UserError(f"{dataset}: not in the Karpathy layout (no list `images`); see docs/data.md")
    rows = [_row(dataset, number, image) for number, image in enumerate(images, 1)]
    return safe_key(str(document.get("dataset") or dataset.stem)), rows


def _read(dataset: Path) -> dict[str, Any]:
    try:
        document = json.loads(dataset.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise UserError(f"{dataset}: no such file; pass a data set in the Karpathy JSON layout") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"{dataset}: not readable as JSON ({error}); pass a Karpathy data set file") from error
    if not isinstance(document, dict):
        raise UserError(f"{dataset}: not in the Karpathy layout (no object at the top); see docs/data.md")
    return document


def _row(dataset: Path, number: int, image: Any) -> Photo:
    """One entry of `images`, checked field by field."""
    try:
        source = "/".join(filter(None, (image.get("filepath", ""), image["filename"])))
        captions = tuple(sentence["raw"].strip() for sentence in image["sentences"])
        split = _SPLITS.get(image["split"], str(image["split"]))
    except (KeyError, TypeError, AttributeError) as error:
        name = image.get("filename") if isinstance(image, dict) else image
        raise UserError(
            f"{dataset}: image {number} ({name!r}) is not in the Karpathy layout ({error}); "
            "it needs a filename, a split and sentences with raw text, see docs/data.md"
        ) from error
    if not source or "://" in source or escapes_root(source):
        raise UserError(
            f"image {number} ('{source}'): a photo's path must stay below the photo folder; correct {dataset.name}"
        )
    return Photo(safe_key(source), source, split, captions)
