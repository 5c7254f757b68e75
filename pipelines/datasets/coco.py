"""Reader of COCO captions JSON (`captions_train2017.json`) and of image lists without captions (`image_info_*.json`).

`images` have `id` and `file_name`, `annotations` have `image_id` and `caption`. A file has one split, which its name
states. Its images are in a folder of the photo root, such as `train2017`, or directly in the photo root.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from infra.errors import UserError
from infra.log import log
from pipelines.datasets.locate_photos import version_tokens
from pipelines.datasets.photo_sources import photo_uri
from pipelines.datasets.row_table import Row
from pipelines.datasets.rows import DatasetFile

_MOST_LOOKED_AT = 1000
"""Images of a folder that are looked at to find it."""


def is_coco(document: dict[str, Any]) -> bool:
    """Returns whether a document with `images` is in the COCO format rather than in Karpathy's."""
    first = next(iter(document["images"]), None)
    return "annotations" in document or (isinstance(first, dict) and "file_name" in first)


def coco_rows(file: DatasetFile, document: dict[str, Any]) -> Iterator[Row]:
    """Yields the images of a document. Raises UserError naming the first image or annotation that is not valid."""
    captions = _captions(file, document.get("annotations", []))
    images = document["images"]
    folders, ids = _folders(file, images), set[int]()
    split = file.split or _split_in(file.path.stem)
    if split and not file.split:
        note = f"all photos are in {split}, as its name states; SPLIT={file.path.name} puts them into another split"
        log.info("%s: %s", file.location, note)
    for number, image in enumerate(images, 1):
        if not _is_image(image):
            raise UserError(
                f"{file.path}: image {number} ({image!r:.80}) needs an integer `id` and a text `file_name` without a "
                "scheme; give COCO's captions_*.json or image_info_*.json"
            )
        if image["id"] in ids:
            raise UserError(
                f"{file.path}: image {number} has the id {image['id']} of an earlier one; change one of them"
            )
        ids.add(image["id"])
        found = tuple(captions.pop(image["id"], ()))
        folder = _folder(image)
        path = f"{folder}/{image['file_name']}" if folder in folders else image["file_name"]
        yield Row(f"image {number}", path, found, split, is_complete=True)
    if captions:
        raise UserError(
            f"{file.path}: {len(captions)} images of annotations are not in `images`, first id {min(captions)}; "
            "give the complete file"
        )


def _split_in(name: str) -> str:
    """Returns the split in the name of a file, as in `captions_val2017`; empty if it has none or several."""
    found = set(re.findall(r"(?<![a-z])(?:train|val|test)(?![a-z])", name.lower()))
    return found.pop() if len(found) == 1 else ""


def _captions(file: DatasetFile, annotations: Any) -> dict[int, list[str]]:
    """Returns the captions by the image's id."""
    captions: dict[int, list[str]] = defaultdict(list)
    if not isinstance(annotations, list):
        raise UserError(f"{file.path}: `annotations` is not a list; give COCO's captions_*.json")
    for number, annotation in enumerate(annotations, 1):
        try:
            image, caption = annotation["image_id"], annotation["caption"].strip()
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{file.path}: annotation {number} ({annotation!r:.80}) needs an `image_id` and a text `caption`; give "
                "COCO's captions_*.json"
            ) from error
        if type(image) is not int:
            raise UserError(f"{file.path}: annotation {number} has the image_id {image!r:.80}; it must be an integer")
        captions[image].append(caption)
    return captions


def _is_image(image: Any) -> bool:
    return (
        isinstance(image, dict)
        and type(image.get("id")) is int
        and isinstance(image.get("file_name"), str)
        and bool(image["file_name"])
        and "://" not in image["file_name"]
    )


def _folders(file: DatasetFile, images: list[Any]) -> set[str]:
    """Returns the folders of the images' `coco_url` in which at least one of their first images exists."""
    uris: dict[str, list[str]] = defaultdict(list)
    for image in images if file.photos else ():
        folder = _folder(image)
        if folder and len(uris[folder]) < _MOST_LOOKED_AT:
            uris[folder].append(photo_uri(file.photos, f"{folder}/{image['file_name']}"))
    return {folder for folder, some in uris.items() if version_tokens(some)}


def _folder(image: Any) -> str:
    """Returns the name of the folder in the `coco_url` of an image; empty without one, and if it is not a URL."""
    url = image.get("coco_url") if _is_image(image) else None
    try:
        return PurePosixPath(urlsplit(url).path).parent.name if isinstance(url, str) else ""
    except ValueError:  # as for http://]/
        return ""
