"""Importer of the Karpathy JSON layout (`dataset_flickr30k.json` and its kin) to a manifest."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from infra.errors import UserError
from pipelines.manifest import Manifest, Photo, safe_key

# COCO's `restval` photos train by convention.
_SPLITS = {"train": "train", "restval": "train", "val": "val", "test": "test"}


def import_karpathy(dataset: Path, photos: Path) -> Manifest:
    """The manifest of a Karpathy JSON and the folder that holds its photos.

    Raises UserError if either is missing, the JSON is not in the layout, or a photo it names is not in the folder.
    """
    if not photos.is_dir():
        raise UserError(f"{photos}: no such photo folder; pass the folder that holds the data set's photos")
    document = _read(dataset)
    try:
        rows = list(_rows(document["images"]))
        name = safe_key(str(document.get("dataset") or dataset.stem))
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{dataset}: not in the Karpathy layout (missing or wrong {error}); see docs/data.md"
        ) from error
    missing = [row.source for row in rows if not (photos / row.source).is_file()]
    if missing:
        raise UserError(
            f"{photos}: {len(missing)} of {len(rows)} photos that {dataset.name} has captions for are not there, "
            f"first {missing[0]}; pass the right folder or take them out of {dataset.name}"
        )
    return Manifest.build(name, str(photos.absolute()), rows)


def _read(dataset: Path) -> dict[str, Any]:
    try:
        document = json.loads(dataset.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise UserError(f"{dataset}: no such file; pass a data set in the Karpathy JSON layout") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{dataset}: not readable as JSON ({error}); pass a Karpathy data set file") from error
    if not isinstance(document, dict):
        raise UserError(f"{dataset}: not in the Karpathy layout (no object at the top); see docs/data.md")
    return document


def _rows(images: list[dict[str, Any]]) -> Iterator[Photo]:
    for image in images:
        source = "/".join(filter(None, (image.get("filepath", ""), image["filename"])))
        if source.startswith("/") or ".." in Path(source).parts:
            raise UserError(f"{source}: a photo's path must stay below the photo folder; correct the data set file")
        captions = tuple(sentence["raw"].strip() for sentence in image["sentences"])
        yield Photo(safe_key(source), source, _SPLITS.get(image["split"], image["split"]), captions)
