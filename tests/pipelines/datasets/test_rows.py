"""Tests of joining rows to photos: keys, and rows that contradict each other."""

import re
import unicodedata

import numpy as np
import pytest

from infra.errors import UserError
from pipelines.datasets.row_table import Row
from pipelines.datasets.rows import PhotoRows

SOURCES = [
    "a.jpg",
    "b/c.jpg",
    "d/c.jpg",
    "d/c.png",
    "写真.jpg",
    "b/絵.jpg",
    "ü.jpg",
    "http://host/x/c.jpg?id=1",
    "c.d.jpg",
]


def keys(sources: list[str], **own: str) -> dict[str, str]:
    rows = PhotoRows()
    rows.add(
        "f", [Row(f"line {n}", source, ("x",), "", own.get(source[0], "")) for n, source in enumerate(sources)], ""
    )
    photos = list(rows.photos()[0])
    assert [photo.source for photo in photos] == sources
    return {photo.source: photo.key for photo in photos}


def test_keys_are_file_names_made_unique_from_the_path():
    found = keys(SOURCES)
    assert len(set(found.values())) == len(SOURCES)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", key) for key in found.values())
    assert (found["a.jpg"], found["c.d.jpg"]) == ("a", "c_d")
    for source in ("b/c.jpg", "d/c.jpg", "d/c.png"):
        assert re.fullmatch(r"c-[0-9a-f]{8}", found[source])
    assert found["b/c.jpg"] == "c-14d0204e"  # stored in shards, so it must not change


def test_keys_do_not_depend_on_the_order():
    wanted = keys(SOURCES)
    for seed in range(20):
        assert keys(np.random.default_rng(seed).permutation(SOURCES).tolist()) == wanted


def test_a_name_that_is_the_key_of_another_photo():
    """Natural names, keys of the file, and hashes that are equal in 8 digits."""
    sources = ["x/c.jpg", "y/c.jpg", "c-740a5e44.jpg"]
    wanted = keys(sources)
    assert re.fullmatch(r"c-740a5e44[0-9a-f]{8}", wanted["x/c.jpg"])
    assert re.fullmatch(r"c-740a5e44-[0-9a-f]{8}", wanted["c-740a5e44.jpg"])
    assert re.fullmatch(r"c-[0-9a-f]{8}", wanted["y/c.jpg"])
    assert keys(sources[::-1]) == wanted
    found = keys(["x/c.jpg", "y/c.jpg", "a.jpg"], a="c-740a5e44")
    assert (found["a.jpg"], found["x/c.jpg"]) == ("c-740a5e44", wanted["x/c.jpg"])
    equal = [f"{number}/c.jpg" for number in (36859, 37380)]  # their hashes start with the same 8 digits
    assert {len(key) for key in keys(equal).values()} == {18}


def test_unicode_forms_of_a_path_have_the_same_key():
    sources = ["é/c.jpg", "d/c.jpg"]
    forms = [[unicodedata.normalize(form, source) for source in sources] for form in ("NFC", "NFD")]
    assert list(keys(forms[0]).values()) == list(keys(forms[1]).values())


def test_a_key_of_the_file_wins():
    assert keys(["c.jpg", "b/c.jpg"], c="mine") == {"c.jpg": "mine", "b/c.jpg": "c"}
    found = keys(["a.jpg", "b/c.jpg"], a="c")
    assert found["a.jpg"] == "c"
    assert found["b/c.jpg"].startswith("c-")


def test_listed_name_matches_one_photo():
    rows = PhotoRows()
    rows.add("f", [Row("line", source, ("x",)) for source in ("a/1.jpg", "b/1.jpg", "b/2.jpg")], "")
    rows.add("f", [Row("line", "é.jpg", ("x",))], "")
    rows.set_splits(
        "l", [("line 1", "a/1.jpg"), ("line 2", "2"), ("line 3", unicodedata.normalize("NFD", "é"))], "test"
    )
    with pytest.raises(UserError, match="l: line 3: '1' is not the name of one photo"):
        rows.set_splits("l", [("line 3", "1")], "test")
    photos, left_out = rows.photos()
    assert [(photo.source, photo.split) for photo in photos] == [
        ("a/1.jpg", "test"),
        ("b/2.jpg", "test"),
        ("é.jpg", "test"),
    ]
    assert left_out == 1


@pytest.mark.parametrize("name", ["sub/b.jpg", "sub/b", "b.jpg", "b"])
def test_lists_name_photos_by_path_or_file_name(name: str):
    rows = PhotoRows()
    rows.add("f", [Row("row 1", source, ("x",)) for source in ("a.jpg", "sub/a.jpg", "sub/b.jpg")], "")
    rows.set_splits("l", [("line 1", name), ("line 2", "a.jpg")], "val")
    photos, left_out = rows.photos()
    assert [(photo.source, photo.split) for photo in photos] == [("a.jpg", "val"), ("sub/b.jpg", "val")]
    assert left_out == 1


def test_rows_of_a_uri_are_joined_however_it_is_written():
    rows = PhotoRows()
    rows.add("f", [Row("line 1", "http://h/1.jpg", ("x",)), Row("line 2", " HTTP://h/1.jpg ", ("y",))], "")
    rows.set_splits("l", [("line 1", "HTTP://h/1.jpg")], "test")
    ((photo,), _) = rows.photos()
    assert (photo.source, photo.split, photo.captions) == ("http://h/1.jpg", "test", ("x", "y"))


def test_rows_of_a_photo_are_joined_and_must_agree():
    rows = PhotoRows()
    rows.add("f", [Row("line 1", "a.jpg", ("x",)), Row("line 2", "b.jpg", ("z",)), Row("line 3", "a.jpg", ("y",))], "")
    rows.add("g", [Row("row 1", "a.jpg", (), "validation", "k")], "")
    (first, second), left_out = rows.photos()
    assert (first.key, first.split, first.captions) == ("k", "val", ("x", "y"))
    assert (second.key, second.split, left_out) == ("b", "train", 0)


@pytest.mark.parametrize(
    ("row", "split", "message"),
    [
        (Row("row 5", "a.jpg"), "test", r"h: row 5 \(a\.jpg\): its split is 'test', but another entry .* has 'val'"),
        (Row("row 5", "a.jpg", (), "", "j"), "", r"h: row 5 \(a\.jpg\): its key is 'j', but another entry .* has 'k'"),
        (
            Row("row 6", "c.jpg", (), "restval"),
            "test",
            r"h: row 6 \(c\.jpg\) has split 'train', but the file .* 'test='",
        ),
        (Row("row 7", "c.jpg", (), "", "k"), "", r"h: row 7: c\.jpg and a\.jpg share the key k; change one of them"),
        (Row("row 8", "b.jpg", is_complete=True), "", r"h: row 8: b\.jpg is listed twice; remove one of the entries"),
        (Row("row 9", "../b.jpg"), "", r"h: row 9 \('\.\./b\.jpg'\): a photo's path must stay below the photo root"),
        (Row("row 10", "d.jpg", ("\ud800",)), "", r"h: row 10: a caption or name is not valid Unicode"),
    ],
)
def test_invalid_or_contradictory_row_is_reported(row: Row, split: str, message: str):
    rows = PhotoRows()
    rows.add("g", [Row("row 1", "a.jpg", (), "val", "k"), Row("row 2", "b.jpg", is_complete=True)], "")

    def add_and_join() -> None:
        rows.add("h", [row], split)
        rows.photos()

    with pytest.raises(UserError, match=f"^{message}"):
        add_and_join()


def test_many_rows_in_any_order_are_joined_as_a_few_are():
    """More than a batch, the rows of a photo in one place or far apart; photos keep the order in which they occur."""
    numbers = np.arange(25_000)
    apart = np.random.default_rng(0).permutation(np.concatenate([numbers, numbers]))
    for order in (np.repeat(numbers, 2), apart, numbers):
        seen: dict[str, int] = {}
        wanted: dict[str, list[str]] = {}
        given = []
        for row, number in enumerate(order.tolist()):
            source = f"{number % 7}/{number // 2}.jpg"
            seen[source] = seen.get(source, 0) + 1
            wanted.setdefault(source, []).append(f"caption {row}")
            given.append(Row(f"row {row}", source, (f"caption {row}",)))
        rows = PhotoRows()
        rows.add("f", given[:13_000], "")
        rows.add("g", given[13_000:], "")
        found = list(rows.photos()[0])
        assert [(photo.source, list(photo.captions)) for photo in found] == list(wanted.items())
        assert len({photo.key for photo in found}) == len(found)
        assert all("-" in photo.key for photo in found if int(photo.key.partition("-")[0]) < 12_499)
