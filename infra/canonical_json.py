"""JSON with one byte sequence per document, so that equal documents have equal digests; and strict reading of it."""

import json
import re
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")
_SHA256 = re.compile("[0-9a-f]{64}")


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


def require_fields(document: Mapping[str, Any], kind: Any) -> None:
    """Raises ValueError unless the document has exactly the fields of a dataclass."""
    expected = set(kind.__dataclass_fields__)
    if set(document) != expected:
        wrong = sorted(expected.symmetric_difference(document))[0]
        raise ValueError(f"field {wrong[:40]!r} is {'missing' if wrong in expected else 'unknown'}")


def typed(document: Mapping[str, Any], field: str, kind: type[T]) -> T:
    """Returns a field. Raises ValueError for a value of another type."""
    value = document[field]
    if type(value) is not kind:
        raise ValueError(f"field '{field}' is {type(value).__name__}, not {kind.__name__}")
    return value


def count(value: Any, field: str) -> int:
    """Returns the value of a field. Raises ValueError unless it is an integer of at least 0."""
    if type(value) is not int or value < 0:
        raise ValueError(f"field '{field}' is not a count")
    return value


def digest(value: Any, field: str) -> str:
    """Returns the value of a field. Raises ValueError unless it is a sha256 in hexadecimal."""
    if type(value) is not str or not _SHA256.fullmatch(value):
        raise ValueError(f"field '{field}' is not a sha256")
    return value
