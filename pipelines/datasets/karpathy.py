"""Importer of the Karpathy JSON layout (`dataset_flickr30k.json`, `dataset_coco.json`, ...)."""

import json
from pathlib import Path
from typing import Any

from infra.errors import UserError
from pipelines.datasets.manifest import Photo, dataset_name, escapes_root, safe_key

# By convention, the `restval` photos of COCO are training photos.
_SPLITS = {"train": "train", "restval": "train", "val": "val", "test": "test"}
_FIELDS = ("dataset", "images", "filename", "filepath", "split", "sentences", "raw")


def karpathy_rows(dataset: Path) -> tuple[str, list[Photo]]:
    """Returns name and rows of a Karpathy JSON file. Raises UserError if it cannot be read or is not valid."""
    document = _read(dataset)
    images = document.get("images")
    if not isinstance(images, list):
        raise UserError(
            f"{dataset}: not in the Karpathy layout (`images` is not a list); see docs/how-to/prepare-a-data-set.md"
        )
    rows = [_row(dataset, number, image) for number, image in enumerate(images, 1)]
    return dataset_name(str(document.get("dataset") or dataset.stem)), rows


def _read(dataset: Path) -> dict[str, Any]:
    try:
        document = json.loads(dataset.read_text(encoding="utf-8-sig"), object_pairs_hook=_object)
    except FileNotFoundError as error:
        raise UserError(f"{dataset}: no such file; give a data set in the Karpathy JSON layout") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{dataset}: not readable as JSON ({error}); give a Karpathy JSON file") from error
    if not isinstance(document, dict):
        raise UserError(
            f"{dataset}: not in the Karpathy layout (not a JSON object); see docs/how-to/prepare-a-data-set.md"
        )
    return document


def _object(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns a JSON object. Raises ValueError if a field that is read occurs twice: Python would keep the last one."""
    found = dict(fields)
    if len(found) != len(fields):
        names = [name for name, _ in fields]
        twice = next((name for name in _FIELDS if names.count(name) > 1), None)
        if twice:
            raise ValueError(f"an object has `{twice}` twice")
    return found


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
