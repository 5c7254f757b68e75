"""The manifest: checked rows, safe keys, a digest that means the content."""

import pytest

from infra.errors import UserError
from pipelines.datasets.manifest import Manifest, Photo, safe_key


def photos(count: int = 3) -> list[Photo]:
    return [Photo(f"k{i}", f"k{i}.jpg", "train", (f"caption {i}", "zwei Wörter")) for i in range(count)]


def test_written_and_read_again_it_is_the_same():
    manifest = Manifest.build("tiny", "/photos", photos())
    again = Manifest.from_parquet(manifest.to_parquet(), "m.parquet")
    assert again.digest() == manifest.digest()
    assert (again.name, again.root) == ("tiny", "/photos")
    assert list(again.photos()) == photos()


@pytest.mark.parametrize("change", ["caption", "order", "split", "source", "name"])
def test_the_digest_changes_with_the_content(change: str):
    rows, name = photos(), "tiny"
    before = Manifest.build(name, "/photos", rows).digest()
    if change == "caption":
        rows[1] = Photo("k1", "k1.jpg", "train", ("caption 1", "zwei Worte"))
    elif change == "order":
        rows.reverse()
    elif change == "split":
        rows[1] = Photo("k1", "k1.jpg", "val", rows[1].captions)
    elif change == "source":
        rows[1] = Photo("k1", "k1.png", "train", rows[1].captions)
    else:
        name = "other"
    assert Manifest.build(name, "/photos", rows).digest() != before


def test_moving_the_photos_does_not_change_the_digest():
    assert Manifest.build("t", "/a", photos()).digest() == Manifest.build("t", "/b", photos()).digest()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (Photo("k9", "k9.jpg", "dev", ("c",)), "k9.jpg: split 'dev' is none of train, val, test"),
        (Photo("k9", "k9.jpg", "val", ()), "k9.jpg: it has no caption"),
        (Photo("k9", "https://me:secret@host/k9.jpg", "val", ("c",)), "^https://host/k9.jpg: .* a user or password"),
        (Photo("k1", "other/k1.png", "val", ("c",)), "other/k1.png and k1.jpg share the key k1"),
    ],
)
def test_a_bad_row_is_named(row: Photo, message: str):
    with pytest.raises(UserError, match=message):
        Manifest.build("tiny", "/photos", [*photos(), row])


def test_an_empty_data_set_and_a_strange_file_are_refused():
    with pytest.raises(UserError, match="lists no photo"):
        Manifest.build("tiny", "/photos", [])
    with pytest.raises(UserError, match=r"x\.parquet: not a readable manifest"):
        Manifest.from_parquet(b"PAR1 but not really", "x.parquet")


def test_keys_are_safe_for_webdataset():
    assert safe_key("1000092795.jpg") == "1000092795"
    assert safe_key("val2014/COCO_val2014_000000000042.jpg") == "COCO_val2014_000000000042"
    assert safe_key("a.b c/é.f.png") == "__f"
