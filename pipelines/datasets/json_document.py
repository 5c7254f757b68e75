"""Reads a JSON document with a list of images: the Karpathy format and COCO captions."""

import json
from pathlib import Path
from typing import Any

from infra.errors import UserError

_FIELDS = (
    *("dataset", "images", "filename", "filepath", "split", "sentences", "raw"),
    *("annotations", "id", "image_id", "file_name", "caption"),
)


def read_image_list(path: Path) -> dict[str, Any]:
    """Returns the document. Raises UserError unless it is a JSON object with a list `images`."""
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_object)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not readable as JSON ({error}); see docs/how-to/prepare-a-data-set.md") from error
    if not isinstance(document, dict) or not isinstance(document.get("images"), list):
        raise UserError(
            f"{path}: neither Karpathy nor COCO captions JSON (it needs a list `images`); see "
            "docs/how-to/prepare-a-data-set.md"
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
