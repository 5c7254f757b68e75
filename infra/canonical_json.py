"""JSON with one byte sequence per document, so that equal documents have equal digests; and strict reading of it."""

import json
from typing import Any


def canonical_json(document: dict[str, Any]) -> bytes:
    """Returns a document as UTF-8 JSON with sorted keys and no spaces. Raises ValueError for text without UTF-8."""
    return json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def load_object(data: bytes) -> dict[str, Any]:
    """Parses a JSON object. Raises ValueError for anything else."""
    try:
        document = json.loads(data)
    except RecursionError as error:
        raise ValueError("the JSON is nested too deeply") from error
    if not isinstance(document, dict):
        raise ValueError(f"expected a JSON object, found {type(document).__name__}")  # noqa: TRY004 - the file is wrong
    return document
