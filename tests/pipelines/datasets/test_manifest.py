"""Tests of the manifest: validated rows, a digest of the content, and the stored format version."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.errors import UserError
from pipelines.datasets.manifest import FORMAT, SCHEMA, SPLITS, Manifest, Photo
from tests.support import ROOT
from tests.support.feature_sets import manifest_bytes


def photos(count: int = 3) -> list[Photo]:
    return [Photo(f"k{i}", f"k{i}.jpg", "train", (f"caption {i}", "zwei Wörter")) for i in range(count)]


def test_parquet_round_trip_keeps_name_root_and_rows():
    manifest = Manifest.build("tiny", "/photos", photos())
    again = Manifest.from_parquet(manifest_bytes(manifest), "m.parquet")
    assert again.digest() == manifest.digest()
    assert (again.name, again.root) == ("tiny", "/photos")
    assert list(again.photos()) == photos()


@pytest.mark.parametrize("numbers", [[], [0], [4], [1, 2, 3], [0, 1, 2, 3, 4], [0, 2, 3], [1, 4]])
def test_rows_are_found_in_a_table_of_several_chunks(numbers: list[int]):
    parts = [Manifest.build("t", "/", photos(5)[start : start + 2]).table for start in (0, 2, 4)]
    rows = Manifest("t", "/", pa.concat_tables(parts)).rows(np.array(numbers, np.int64))
    expected = [photos(5)[number] for number in numbers]
    assert list(rows) == expected
    assert rows == expected
    assert [rows[at] for at in range(len(rows))] == expected
    assert list(rows[1:]) == expected[1:]
    assert list(rows.columns("key", "captions")) == [(photo.key, list(photo.captions)) for photo in expected]


@pytest.mark.parametrize("change", ["caption", "order", "split", "source", "name"])
def test_digest_changes_with_the_content(change: str):
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


def test_digest_does_not_depend_on_the_root():
    assert Manifest.build("t", "/a", photos()).digest() == Manifest.build("t", "/b", photos()).digest()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (Photo("k9", "k9.jpg", "dev", ("c",)), "k9.jpg: split is 'dev'; it must be one of train, val, test, gallery"),
        (Photo("k9", "k9.jpg", "val", ("c", " ")), "k9.jpg: a caption has no word"),
        (Photo("k9", "https://me:secret@host/k9.jpg", "val", ("c",)), "^https://host/k9.jpg: .* a user or password"),
        (Photo("k1", "other/k1.png", "val", ("c",)), "other/k1.png and k1.jpg share the key k1"),
    ],
)
def test_an_invalid_row_is_named_in_the_error(row: Photo, message: str):
    with pytest.raises(UserError, match=message):
        Manifest.build("tiny", "/photos", [*photos(), row])


def test_photos_may_have_no_captions_in_any_split():
    rows = [Photo(split, f"{split}.jpg", split, ()) for split in SPLITS]
    manifest = Manifest.build("tiny", "/photos", rows)
    assert list(Manifest.from_parquet(manifest_bytes(manifest), "m.parquet").photos()) == rows


def test_an_empty_data_set_and_an_unreadable_file_are_refused():
    with pytest.raises(UserError, match="lists no photo"):
        Manifest.build("tiny", "/photos", [])
    with pytest.raises(UserError, match=r"x\.parquet: not a readable manifest"):
        Manifest.from_parquet(b"PAR1 but not really", "x.parquet")


def parquet(metadata: dict[str, str], schema: pa.Schema = SCHEMA) -> bytes:
    row = {"key": "a", "source": "a.jpg", "split": "train", "captions": ["x"], "version_token": ""}
    table = pa.Table.from_pylist([{name: row[name] for name in schema.names}], schema=schema)
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(metadata), sink)
    return sink.getvalue().to_pybytes()


def test_the_stored_manifest_carries_its_format_version():
    data = manifest_bytes(Manifest.build("tiny", "/photos", photos()))
    metadata = pq.read_schema(pa.BufferReader(data)).metadata
    assert metadata == {b"format": b"shan-manifest/2", b"dataset": b"tiny", b"root": b"/photos"}


def test_a_manifest_of_version_0_2_is_read():
    data = (ROOT / "tests" / "fixtures" / "0.2" / "manifest" / "manifest.parquet").read_bytes()
    manifest = Manifest.from_parquet(data, "manifest.parquet")
    assert (manifest.name, manifest.root) == ("fixture", "/photos")
    assert list(manifest.photos()) == [
        Photo("a", "a.jpg", "train", ("a dog runs", "zwei Wörter"), "size-mtime"),
        Photo("b", "sub/b.jpg", "val", ("a cat",)),
        Photo("c", "https://host/c.jpg", "test", ("a bird",)),
    ]
    assert manifest.digest() == "0e0eefd8ac3a61cea35a5bcdd78c038fd7a9bbd71ecf3dff69ca2036062f2846"


def test_a_manifest_of_version_2_may_lack_captions():
    data = (ROOT / "tests" / "fixtures" / "0.2" / "manifest" / "manifest-2.parquet").read_bytes()
    assert pq.read_schema(pa.BufferReader(data)).metadata[b"format"] == b"shan-manifest/2"
    manifest = Manifest.from_parquet(data, "manifest-2.parquet")
    assert (manifest.name, manifest.root) == ("fixture", "s3://photos/all")
    assert list(manifest.photos()) == [
        Photo("a", "a.jpg", "train", ("a dog runs", "zwei Wörter"), "etag"),
        Photo("b", "sub/b.jpg", "train", ()),
        Photo("c", "https://host/c.jpg", "gallery", ()),
    ]
    assert manifest.digest() == "b686af49bed947b2e7ce6ef27f03d7c55d6bf88777bee95d748768ecd25cb24b"


@pytest.mark.parametrize(("stored", "named"), [({}, "None"), ({"format": "shan-manifest/3"}, "'shan-manifest/3'")])
def test_an_unknown_format_version_is_refused_in_one_line(stored: dict[str, str], named: str):
    with pytest.raises(UserError) as caught:
        Manifest.from_parquet(parquet({**stored, "dataset": "d", "root": "/photos"}), "m.parquet")
    assert str(caught.value).startswith(f"m.parquet: manifest format is {named}, expected '{FORMAT}'; ")
    assert "\n" not in str(caught.value)


def test_other_columns_or_a_missing_root_are_refused():
    metadata = {"format": FORMAT, "dataset": "d", "root": "/photos"}
    assert Manifest.from_parquet(parquet(metadata), "m.parquet").root == "/photos"
    other = pa.schema([("key", pa.string()), ("source", pa.string())])
    for data in (parquet(metadata, other), parquet({"format": FORMAT, "dataset": "d"})):
        with pytest.raises(UserError, match=r"^m\.parquet: not a valid manifest \(columns key, source"):
            Manifest.from_parquet(data, "m.parquet")
