"""Tests of Parquet tables that contain their images, as Hugging Face `datasets` writes them."""

from itertools import count
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.errors import StorageError, StoreAccessError, UserError
from infra.storage.folder import FolderStore
from infra.storage.open import open_store
from pipelines.datasets.decode import PhotoError
from pipelines.datasets.importer import DatasetFiles, import_dataset
from pipelines.datasets.parquet_table import parquet_name
from pipelines.datasets.photo_sources import photo_uri, read_photo
from tests.support.servers import S3Server

FEATURES = b'{"info": {"features": {"image": {"_type": "Image"}, "caption": [{"dtype": "string", "_type": "Value"}]}}}'
"""Metadata of Hugging Face, which nothing here depends on."""


def write(path: Path, names: list[str | None], *, first: int = 0, group: int = 2) -> None:
    """Writes a file in the layout of `nlphuji/flickr30k`, with several row groups."""
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [
        {
            "image": {"bytes": f"bytes {first + n}".encode(), "path": name},
            "caption": [f"caption {first + n}", "another"],
            "img_id": str(first + n),
            "split": ["train", "val"][n % 2],
        }
        for n, name in enumerate(names)
    ]
    schema = pa.schema(
        [("image", image), ("caption", pa.list_(pa.string())), ("img_id", pa.string()), ("split", pa.string())],
        {b"huggingface": FEATURES},
    )
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, row_group_size=group)


def test_images_in_a_file_are_photos(tmp_path: Path):
    names = ["1000092795.jpg", "/home/me/b c.jpg", "x/1000366164.jpg", None, "e.jpg"]
    write(tmp_path / "train-00000-of-00001.parquet", names)
    manifest = import_dataset(tmp_path / "train-00000-of-00001.parquet")
    assert manifest.root == str(tmp_path)
    photos = list(manifest.photos())
    assert [photo.key for photo in photos] == ["1000092795", "b_c", "1000366164", "3", "e"]
    assert photos[1].source == "train-00000-of-00001.parquet/image/1/b c.jpg"
    assert [photo.split for photo in photos] == ["train", "val", "train", "val", "train"]
    assert photos[4].captions == ("caption 4", "another")
    assert all(photo.version_token for photo in photos)
    found = [read_photo(photo_uri(manifest.root, photo.source)) for photo in [*photos, *photos[::-1]]]
    assert found == [f"bytes {n}".encode() for n in [0, 1, 2, 3, 4, 4, 3, 2, 1, 0]]


@pytest.mark.parametrize("name", ["validation-00000-of-00001.parquet", "default/test/0000.parquet", "scenes.parquet"])
def test_names_state_the_split_of_photos_without_one(tmp_path: Path, name: str):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    rows = [{"image": "a.jpg", "caption": "a dog"}, {"image": "b.jpg", "caption": "a dog", "split": "train"}]
    pq.write_table(
        pa.Table.from_pylist(rows, pa.schema([(n, pa.string()) for n in ("image", "caption", "split")])),
        tmp_path / name,
    )
    stated = {"validation-00000-of-00001.parquet": "val", "default/test/0000.parquet": "test"}.get(name, "train")
    for dataset, split in ((str(tmp_path), stated), (f"gallery={tmp_path / name}", "gallery")):
        if split == "gallery":
            rows[1]["split"] = "gallery"
            pq.write_table(pa.Table.from_pylist(rows), tmp_path / name)
        found = [photo.split for photo in import_dataset(dataset, tmp_path).photos()]
        assert found == [split, rows[1]["split"]]


PATTERNS = ["train-{00000..00001}-of-00002.parquet", "train-*.parquet"]


@pytest.mark.parametrize("given", ["folder", "files", *PATTERNS])
def test_several_files_are_one_data_set(tmp_path: Path, given: str):
    folder = tmp_path / "flickr" / "data"
    folder.mkdir(parents=True)
    paths = [folder / f"train-0000{n}-of-00002.parquet" for n in (0, 1)]
    write(paths[0], ["a.jpg", "b.jpg"])
    write(paths[1], ["c.jpg"], first=2)
    several = {"folder": (str(folder),), "files": tuple(map(str, paths))}
    manifest = import_dataset(DatasetFiles(several.get(given, (f"{folder}/{given}",)), None, {"key": "img_id"}))
    assert manifest.name == "flickr"
    photos = list(manifest.photos())
    assert [(photo.key, photo.source) for photo in photos] == [
        ("0", "train-00000-of-00002.parquet/image/0/a.jpg"),
        ("1", "train-00000-of-00002.parquet/image/1/b.jpg"),
        ("2", "train-00001-of-00002.parquet/image/0/c.jpg"),
    ]
    assert read_photo(photo_uri(manifest.root, photos[2].source)) == b"bytes 2"


@pytest.mark.parametrize(
    ("location", "is_folder", "name"),
    [
        ("/x/flickr/data", True, "flickr"),
        ("/data", True, "data"),
        ("s3://bucket/flickr/data/validation-00000-of-00001.parquet", False, "flickr"),
        ("/x/flickr/data/{train,test}-*.parquet", False, "flickr"),
        ("/x/data/coco.parquet", False, "coco"),
        ("/x/data/coco-*.parquet", False, "coco"),
        ("/x/flickr/train-*.parquet", False, "train"),
        ("/x/flickr", True, "flickr"),
    ],
)
def test_names_of_data_sets(location: str, is_folder: bool, name: str):
    assert parquet_name(location, is_folder) == name


def test_files_in_a_bucket_are_read_in_place(tmp_path: Path, s3_server: S3Server):
    """A file with its photos, a prefix, a range, and a table of photos elsewhere."""
    root = f"s3://{s3_server.bucket}/{tmp_path.name}/data"
    for number in (0, 1):
        write(tmp_path / "d.parquet", [f"{number}.jpg"], first=number)
        open_store(root).replace(f"train-0000{number}-of-00002.parquet", (tmp_path / "d.parquet").read_bytes())
    for given in (root, *(f"{root}/{pattern}" for pattern in PATTERNS)):
        manifest = import_dataset(given)
        assert manifest.root == root
        photos = list(manifest.photos())
        assert [photo.source.partition("/")[2] for photo in photos] == ["image/0/0.jpg", "image/0/1.jpg"]
        assert [read_photo(photo_uri(root, photo.source)) for photo in photos] == [b"bytes 0", b"bytes 1"]
    assert next(import_dataset(f"{root}/train-00001-of-00002.parquet").photos()).key == "1"
    pq.write_table(pa.table({"uri": ["http://host/a.jpg"], "caption": ["a"]}), tmp_path / "t.parquet")
    open_store(f"{root}/t").replace("t.parquet", (tmp_path / "t.parquet").read_bytes())
    assert [photo.key for photo in import_dataset(f"{root}/t").photos()] == ["a"]
    with pytest.raises(UserError, match=rf"^{root}/2.parquet: no such file; correct the data set {root}/"):
        import_dataset(f"{root}/{{2..3}}.parquet")


def test_a_binary_column_has_no_names(tmp_path: Path):
    table = pa.table({"jpg": pa.array([b"x", b"y"], pa.binary()), "TEXT": ["a", "b"]})
    pq.write_table(table, tmp_path / "d.parquet")
    manifest = import_dataset(DatasetFiles((f"{tmp_path}/d.parquet",), None, {"image": "jpg", "caption": "TEXT"}))
    assert [(photo.key, photo.source) for photo in manifest.photos()] == [
        ("0", "d.parquet/jpg/0"),
        ("1", "d.parquet/jpg/1"),
    ]
    assert read_photo(photo_uri(manifest.root, "d.parquet/jpg/1")) == b"y"


def test_moving_the_file_keeps_the_digest(tmp_path: Path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "d.parquet", ["a.jpg"])
    first, second = (import_dataset(tmp_path / folder / "d.parquet") for folder in ("a", "b"))
    assert first.digest() == second.digest()


def test_the_photo_root_is_above_the_file(tmp_path: Path):
    write(tmp_path / "d.parquet", ["a.jpg"])
    assert import_dataset(tmp_path / "d.parquet", tmp_path).root == str(tmp_path)
    (above,) = import_dataset(tmp_path / "d.parquet", tmp_path.parent).photos()
    assert above.source == f"{tmp_path.name}/d.parquet/image/0/a.jpg"
    (tmp_path / "x").mkdir()
    with pytest.raises(
        UserError, match=r"the photos are in .*, not in .*/x; omit --photos, or give a folder above them"
    ):
        import_dataset(tmp_path / "d.parquet", tmp_path / "x")


@pytest.mark.parametrize("error", [StorageError("s3://b: 503"), StoreAccessError("s3://b: ExpiredToken")], ids=repr)
def test_a_read_that_fails_once_does_not_change_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    write(tmp_path / "d.parquet", ["a.jpg", "b.jpg"])
    files, reads, read = DatasetFiles((str(tmp_path / "d.parquet"),), None, {}), 0, FolderStore.read

    def fails_once(store: FolderStore, name: str, *extent: int) -> bytes:
        nonlocal reads
        reads += 1
        if reads == failing:
            raise error
        return read(store, name, *extent)

    monkeypatch.setattr(FolderStore, "read", fails_once)
    for failing in count(1):
        reads = 0
        try:
            found = import_dataset(files, None)
        except type(error):
            continue
        assert found.root == str(tmp_path)
        if reads < failing:
            break


def test_a_bad_row_is_named(tmp_path: Path):
    rows = [{"image": "http://host/a.jpg", "caption": "x", "key": key} for key in ("a", "b", "b")]
    rows[2]["image"] = "http://host/c.jpg"
    rows[1]["image"] = None
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "d.parquet")
    with pytest.raises(UserError, match=r"d.parquet: row 2 \(None\): image is None; it must be text"):
        import_dataset(tmp_path / "d.parquet")


def test_a_file_with_another_ending_cannot_contain_photos(tmp_path: Path):
    write(tmp_path / "D.PARQUET", ["a.jpg"])
    (photo,) = import_dataset(tmp_path / "D.PARQUET").photos()
    assert read_photo(photo_uri(str(tmp_path), photo.source)) == b"bytes 0"
    write(tmp_path / "d.pq", ["a.jpg"])
    with pytest.raises(UserError, match=r"the name of the file must end in .parquet"):
        import_dataset(tmp_path / "d.pq")


def test_text_columns_that_are_not_read_are_printed_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Hugging Face's data sets of images often have their captions in a column `text`."""
    table = pa.table({"image": ["http://host/a.jpg"], "text": ["a dog"], "tags": [["x"]], "width": [3]})
    (tmp_path / "d").mkdir()
    for number in range(2):
        url = pa.array([f"http://host/{number}.jpg"])
        pq.write_table(table.set_column(0, "image", url), tmp_path / "d" / f"{number}.parquet")
    import_dataset(tmp_path / "d", tmp_path)
    assert capsys.readouterr().err == (
        f"{tmp_path}/d: no captions: the import reads image, but not text, tags; if one of them has captions, name it "
        "(--columns caption=NAME)\n"
    )
    captions = DatasetFiles((f"{tmp_path}/d",), columns={"caption": "text"})
    assert [photo.captions for photo in import_dataset(captions, tmp_path).photos()] == 2 * [("a dog",)]
    assert capsys.readouterr().err == ""


def images_of(path: Path, *images: dict[str, object] | None) -> Path:
    type_ = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"image": pa.array(images, type_)}), path, row_group_size=2)
    return path


def test_a_missing_image_is_rejected(tmp_path: Path):
    path = images_of(tmp_path / "d.parquet", {"bytes": None, "path": "a.jpg"}, None, {"bytes": b"x", "path": "b.jpg"})
    manifest = import_dataset(path)
    *missing, last = (photo_uri(manifest.root, photo.source) for photo in manifest.photos())
    for uri in missing:
        with pytest.raises(PhotoError, match=r"^not in its Parquet file$"):
            read_photo(uri)
    assert read_photo(last) == b"x"


@pytest.mark.parametrize("path", ["a.jpg", None])
def test_a_file_without_any_image_is_refused(tmp_path: Path, path: str | None):
    missing = {"bytes": None, "path": path}
    with pytest.raises(UserError, match=r"d.parquet: column `image` contains no images, but at most their paths; wri"):
        import_dataset(images_of(tmp_path / "d.parquet", missing, None, missing))
