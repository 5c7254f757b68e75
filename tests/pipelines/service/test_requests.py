"""What clients may send: fields, limits, and the status and the fix of everything else."""

import base64
import json
from typing import Any

import pytest

from pipelines.search.config import MAX_WORDS
from pipelines.service.config import ServiceConfig
from pipelines.service.errors import ServiceError
from pipelines.service.requests import (
    PairRequest,
    SearchRequest,
    image_bytes,
    parse_request,
    require_allowed,
    within_limits,
)


def read(body: object, kind: Any = SearchRequest, query: dict[str, str] | None = None) -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return parse_request(kind, (query or {}).items(), "application/json", data)


def test_a_sentence_is_searched_among_photos_by_default():
    request = read({"sentence": "a dog"})
    assert (request.gallery, request.k, request.candidates, request.explain) == ("photos", 10, 100, False)


def test_the_fields_may_be_parameters():
    query = {"sentence": "犬", "k": "3", "explain": "true"}
    request = parse_request(SearchRequest, query.items(), "", b"")
    assert (request.sentence, request.k, request.explain) == ("犬", 3, True)


@pytest.mark.parametrize("content_type", ["image/jpeg", "application/octet-stream"])
def test_a_photo_may_be_the_body(content_type: str):
    request = parse_request(SearchRequest, [("k", "2")], content_type, b"\xff\xd8 bytes")
    assert (request.gallery, image_bytes(request.image or "")) == ("captions", b"\xff\xd8 bytes")


@pytest.mark.parametrize(
    ("body", "status", "field", "message"),
    [
        (b"{", 400, None, "the body is not JSON"),
        (b"[1]", 400, None, "the body is a JSON list; send an object of fields"),
        (b"\xff\xfe\x00", 400, None, "the body is not JSON"),
        (b"[" * 100_000, 400, None, "the body is not JSON"),
        ({}, 422, None, "give exactly one of sentence, image and image_uri"),
        ({"sentence": "a", "image": "aa"}, 422, None, "give exactly one of"),
        ({"sentence": "  "}, 422, "sentence", "is empty; give a sentence"),
        ({"sentence": "!!! \U0001f600"}, 422, "sentence", "has no word; give text with a letter or a digit"),
        ({"sentence": "a " * (MAX_WORDS + 1)}, 422, "sentence", f"has 513 words; give at most {MAX_WORDS}"),
        ({"sentence": "a" * 20_001}, 422, "sentence", "at most 20000 characters"),
        ({"sentence": 7}, 422, "sentence", "sentence: input should be a valid string"),
        ({"sentence": "a", "k": 0}, 422, "k", "k is 0; it must be at least 1"),
        ({"sentence": "a", "k": "many"}, 422, "k", "valid integer"),
        ({"sentence": "a", "k": True}, 422, "k", "give a number or text"),
        (b'{"sentence": "a", "k": 1e400}', 422, "k", "k: "),
        (b'{"sentence": "a", "k": NaN}', 422, "k", "k: "),
        (b'{"sentence": "a", "k": -%s}' % (b"9" * 400), 422, "k", "k is -999"),
        (b'{"sentence": "\\ud800"}', 422, "sentence", "sentence: is not valid text (half of a surrogate pair)"),
        (b'{"sentence": "a", "\\ud800": 1}', 422, "?", "? is not a field"),
        ({"sentence": [0] * 50_000}, 422, "sentence", "sentence: give a number or text"),
        ({"sentence": "a", "split": {"a": [[[1]]]}}, 422, "split", "split: give a number or text"),
        ({f"field-{n}": n for n in range(10_000)}, 422, "field-0", "field-0 is not a field; the fields are image, "),
        ({"sentence": "a", "candidates": -1}, 422, "candidates", "candidates is -1; it must be at least 1"),
        (
            {"sentence": "a", "limit": 3},
            422,
            "limit",
            "limit is not a field; the fields are image, image_uri, sentence",
        ),
        ({"sentence": "a", "explain": True, "k": 101}, 422, "k", "k is 101; with explain it must be at most 100"),
        ({"image": "aa", "explain": True}, 422, "explain", "explain has no effect on a search by photo"),
    ],
)
def test_other_requests_are_refused(body: object, status: int, field: str | None, message: str):
    with pytest.raises(ServiceError) as caught:
        read(body)
    assert (caught.value.status, caught.value.field) == (status, field)
    assert message in caught.value.message
    sent = json.dumps(caught.value.document(), allow_nan=False, ensure_ascii=False).encode()
    assert len(sent) < 1000


def test_json_may_be_large_only_in_its_image():
    """Larger bodies are refused before they are parsed: these are cut, so that they are not JSON."""
    image = "aa\\/" * 200_000
    assert read(b'{"k": 3, "image" : "%s", "split": "test"}' % image.encode()).image == image.replace("\\", "")
    longest = "\U0001f600" * 19_999 + "a"  # twelve bytes each
    assert read({"sentence": longest}).sentence == longest
    fields = ", ".join(f'"{n}": 0' for n in range(40_000))
    for body in (f"{{{fields}}}", f'{{"image": "aaaa", {fields}}}', json.dumps({"sentence": [0] * 200_000})):
        with pytest.raises(ServiceError, match="beside image; send at most 300 kB of other fields") as caught:
            read(body[:-1].encode())
        assert (caught.value.status, caught.value.field) == (413, "body")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"key": "p7"}, "sentence is missing"),
        ({"sentence": "a", "key": ""}, "key: string should have at least 1 character"),
        ({"sentence": "a"}, "give exactly one of key, image and image_uri"),
        ({"sentence": "a", "key": "p7", "image": "aa"}, "give exactly one of key"),
        ({"sentence": "a", "image": "aa", "dataset": "d"}, "dataset has no effect without key"),
    ],
)
def test_a_pair_needs_a_sentence_and_one_photo(body: object, message: str):
    with pytest.raises(ServiceError, match=message):
        read(body, PairRequest)


def test_limits_of_the_service_are_checked():
    config = ServiceConfig(max_k=5, max_candidates=50)
    within_limits(read({"sentence": "a", "k": 5, "candidates": 50}), config)
    for field, value in (("k", 6), ("candidates", 51)):
        with pytest.raises(ServiceError, match=f"{field} is {value}; it must be at most {value - 1}"):
            within_limits(read({"sentence": "a", "k": 1, "candidates": 1} | {field: value}), config)


def test_defaults_are_lowered_to_the_limits():
    found = within_limits(read({"sentence": "a"}), ServiceConfig(max_k=5, max_candidates=50))
    assert (found.k, found.candidates) == (5, 50)
    few = ServiceConfig(max_candidates=3)
    found = within_limits(read({"sentence": "a"}), few)
    assert (found.k, found.candidates) == (3, 3)
    with pytest.raises(ServiceError, match="k is 4; it must be at most 3"):
        within_limits(read({"sentence": "a", "k": 4}), few)


@pytest.mark.parametrize(
    ("query", "content_type", "body"),
    [
        ([("k", "1"), ("k", "2")], "", b""),
        ([], "application/json", b'{"sentence": "a", "k": 1, "k": 2}'),
        ([("k", "1")], "application/json", b'{"sentence": "a", "k": 2}'),
    ],
)
def test_a_field_is_given_once(query: list[tuple[str, str]], content_type: str, body: bytes):
    with pytest.raises(ServiceError, match="k is given twice; give it once") as caught:
        parse_request(SearchRequest, query, content_type, body)
    assert (caught.value.status, caught.value.field) == (422, "k")


def test_images_are_base64_or_data_uris():
    text = base64.b64encode(b"bytes").decode()
    assert image_bytes(text) == image_bytes(f"data:image/png;base64,{text}") == b"bytes"
    with pytest.raises(ServiceError, match="image is not base64 text") as caught:
        image_bytes("/etc/passwd!")
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "uri",
    [
        "http://169.254.169.254/latest",
        "/etc/passwd",
        "file:///etc/passwd",
        "s3://other/p.jpg",
        "s3://b/photos/../secret.jpg",
        "s3://b/photos/%2e%2e/secret.jpg",
        "s3://b/photos/..%5csecret.jpg",
        "s3://b/photos-private/p.jpg",
    ],
)
def test_uris_outside_of_the_image_sources_are_refused(uri: str):
    with pytest.raises(ServiceError) as caught:
        require_allowed(uri, ("s3://b/photos/",))
    assert (caught.value.status, caught.value.field) == (422, "image_uri")


@pytest.mark.parametrize("uri", ["~root/p.jpg", "~nobody-here/p.jpg", "~/p.jpg", "photos/p.jpg", "~root/s3://b", ""])
def test_a_photo_needs_a_uri_or_an_absolute_path(uri: str):
    with pytest.raises(ServiceError, match="image_uri is neither a URI nor an absolute path; give one") as caught:
        require_allowed(uri, ("/",))
    assert (caught.value.status, caught.value.field, caught.value.value) == (422, "image_uri", uri)


def test_uris_are_read_only_below_image_sources():
    assert require_allowed("s3://b/photos/a/p.jpg", ("s3://b/photos/",)) == "s3://b/photos/a/p.jpg"
    assert require_allowed("file:///photos/a%20b.jpg", ("/photos/",)) == "/photos/a b.jpg"
    for uri in ("file:///photos/%2e%2e/secret.jpg", "/photos/../secret.jpg", "photos/a.jpg", ""):
        with pytest.raises(ServiceError) as caught:
            require_allowed(uri, ("/photos/",))
        assert caught.value.status == 422
    with pytest.raises(ServiceError, match="send the photo's bytes as image"):
        require_allowed("s3://b/photos/a/p.jpg", ())
