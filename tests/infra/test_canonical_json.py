"""JSON with one byte sequence per document, and strict reading of it."""

import pytest

from infra.canonical_json import canonical_json, load_object


def test_equal_documents_have_equal_bytes():
    assert canonical_json({"b": [1, 2], "a": "é"}) == canonical_json({"a": "é", "b": [1, 2]})
    assert canonical_json({"b": [1, 2], "a": "é"}) == '{"a":"é","b":[1,2]}'.encode()
    assert load_object(canonical_json({"a": {"b": None}})) == {"a": {"b": None}}


def test_text_without_utf8_is_an_error():
    with pytest.raises(ValueError, match="surrogates"):
        canonical_json({"a": "\ud800"})


@pytest.mark.parametrize("data", [b"", b"[1]", b'"a"', b"{", b"\xff", b"[" * 100_000], ids=lambda data: str(data[:5]))
def test_anything_but_an_object_is_an_error(data: bytes):
    with pytest.raises(ValueError):  # noqa: PT011 - Python's own message, or ours
        load_object(data)
