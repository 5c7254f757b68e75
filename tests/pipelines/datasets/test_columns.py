"""Tests of the roles of a table's columns."""

import pytest

from infra.errors import UserError
from pipelines.datasets.columns import parse_columns, resolve_columns


def test_the_option_maps_roles_to_columns():
    assert parse_columns("image=url,caption=TEXT") == {"image": "url", "caption": "TEXT"}
    assert parse_columns("key=a=b") == {"key": "a=b"}


@pytest.mark.parametrize("text", ["", "image", "image=", "photo=url", "image=a,image=b", "image=a,"])
def test_other_forms_of_the_option_are_refused(text: str):
    with pytest.raises(UserError, match=f"--columns is '{text}'; write <role>=<column>, .* image, caption, captions"):
        parse_columns(text)


def test_columns_of_tables_that_people_publish():
    img2dataset = ["url", "caption", "key", "status", "width", "height", "sha256"]
    assert resolve_columns(img2dataset, {"image": "url"}, "") == {"image": "url", "caption": "caption", "key": "key"}
    flickr30k = ["image", "caption", "sentids", "split", "img_id", "filename"]
    assert resolve_columns(flickr30k, {}, "") == {"image": "image", "caption": "caption", "split": "split"}
    given = {"image": "filename", "captions": "caption"}
    assert resolve_columns(flickr30k, given, "") == {"split": "split", **given}


@pytest.mark.parametrize(
    ("names", "given", "message"),
    [
        (["url"], {}, r"f are url; name the one of the images \(--columns image=NAME\)"),
        (["image", "uri"], {}, r"f are `image` and `uri`; name the right one \(--columns image=NAME\)"),
        (["url"], {"image": "uri"}, "f are url; `uri` of --columns is not one of them"),
        (["uri", "caption", "captions"], {}, "f have both `caption` and `captions`"),
        (["uri", "key", "key"], {}, "f have `key` twice"),
    ],
)
def test_ambiguous_and_absent_columns_are_errors(names: list[str], given: dict[str, str], message: str):
    with pytest.raises(UserError, match=message):
        resolve_columns(names, given, "f")
