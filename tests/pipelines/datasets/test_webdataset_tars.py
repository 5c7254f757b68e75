"""Tests of webdataset tars as data sets: which tars are read, names, splits, and photos that are read by place."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import webdataset

from infra.errors import UserError
from infra.storage.open import open_store
from pipelines.datasets.importer import DatasetFiles, import_dataset
from pipelines.datasets.manifest import Manifest
from pipelines.datasets.photo_sources import photo_uri, read_photo
from pipelines.datasets.webdataset_tars import webdataset_name
from tests.support.servers import S3Server
from tests.support.webdataset_tars import img2dataset_shard, write_tar


def photos_of(manifest: Manifest) -> Iterator[tuple[str, str, tuple[str, ...], bytes]]:
    """Yields key, split, captions and bytes of every photo."""
    for photo in manifest.photos():
        assert photo.version_token
        yield photo.key, photo.split, photo.captions, read_photo(photo_uri(manifest.root, photo.source))


def shard(path: Path, number: int, count: int = 2) -> Path:
    """Writes one of img2dataset's shards, with the Parquet file that it writes beside it."""
    images = [(f"{number:05d}{n:04d}", f"jpg {number} {n}".encode() * 100, f"Foto {number} {n}") for n in range(count)]
    path.with_suffix(".parquet").parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".parquet").write_bytes(b"PAR1 not read")
    return img2dataset_shard(path, images)


def expected(number: int, split: str = "train") -> list[tuple[str, str, tuple[str, ...], bytes]]:
    return [
        (f"{number:05d}{n:04d}", split, (f"Foto {number} {n}",), f"jpg {number} {n}".encode() * 100) for n in range(2)
    ]


@pytest.mark.parametrize(
    "given",
    ["{folder}/{{00000..00002}}.tar", "{folder}/*.tar", "{folder}/000{{00..02}}*.tar", "{folder}", "{folder}/", "each"],
)
def test_many_tars_are_one_data_set(tmp_path: Path, given: str):
    folder = tmp_path / "laion"
    tars = [shard(folder / f"{number:05d}.tar", number) for number in range(3)]
    files = tuple(map(str, tars)) if given == "each" else (given.format(folder=folder),)
    manifest = import_dataset(DatasetFiles(files))
    assert (manifest.name, manifest.root) == ("laion", str(folder))
    assert list(photos_of(manifest)) == [row for number in range(3) for row in expected(number)]


def test_the_writer_of_webdataset(tmp_path: Path):
    """Keys with folders and dots in them, several images and captions in a sample, other members."""
    pattern = f"{tmp_path}/set-%06d.tar"
    with webdataset.ShardWriter(pattern, maxcount=2, verbose=0) as writer:
        writer.write({"__key__": "a/1", "jpg": b"one", "json": {"captions": ["x", "y"], "caption": "z"}, "cls": 3})
        writer.write({"__key__": "b/1", "left.png": b"left", "right.PNG": b"right", "txt": "first\n\nsecond\n"})
        writer.write({"__key__": "写真/ü", "webp": b"three", "txt": "", "json": {"caption": None}})
    manifest = import_dataset(f"{tmp_path}/set-{{000000..000001}}.tar")
    assert manifest.name == "set"
    (key, *first), *others = photos_of(manifest)
    assert (key, first) == ("1", ["train", ("x", "y"), b"one"])
    assert others == [
        ("1_left", "train", ("first", "second"), b"left"),
        ("1_right", "train", ("first", "second"), b"right"),
        ("_", "gallery", (), b"three"),
    ]


def test_caption_fields_with_dots_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """webdataset's writer appends the name of a field to the key. Other texts are left out with a message."""
    path = f"{tmp_path}/set.tar"
    with webdataset.TarWriter(path) as writer:
        writer.write({"__key__": "0", "image.jpg": b"0", "caption.txt": "of 0"})
        writer.write({"__key__": "1", "jpg": b"1", "caption": b"of 1"})
        writer.write({"__key__": "2", "jpg": b"2", "txt": "of 2", "caption.txt": "longer", "metadata.json": {"a": 1}})
        writer.write({"__key__": "3", "jpg": b"3", "caption.jpg": b"4", "caption.txt": "of 4", "b.c.txt": "of none"})
    found = [(photo.key, photo.captions) for photo in import_dataset(path).photos()]
    assert found == [("0_image", ("of 0",)), ("1", ("of 1",)), ("2", ("of 2",)), ("3_caption", ("of 4",)), ("3", ())]
    note = "2 texts in tars are left out (set.tar/2.metadata.json, set.tar/3.b.c.txt): no image has their name"
    assert capsys.readouterr().err.splitlines() == [note]


def test_folders_of_splits_have_a_common_root(tmp_path: Path):
    for number, split in enumerate(("train", "val")):
        shard(tmp_path / split / "00000.tar", number)
    files = (f"train={tmp_path}/train", f"val={tmp_path}/val/{{00000..00000}}.tar")
    manifest = import_dataset(DatasetFiles(files))
    assert manifest.root == str(tmp_path)
    assert list(photos_of(manifest)) == [*expected(0), *expected(1, "val")]
    assert import_dataset(DatasetFiles(files), tmp_path).digest() == manifest.digest()
    with pytest.raises(
        UserError, match=r"the photos are in .*, not in .*/train; omit --photos, or give a folder above"
    ):
        import_dataset(DatasetFiles(files), tmp_path / "train")


def test_captions_of_another_file_are_joined(tmp_path: Path):
    tar = write_tar(tmp_path / "a.tar", [("a.jpg", b"x")])
    (photo,) = import_dataset(tar).photos()
    (tmp_path / "d.csv").write_text(f"uri,caption,split\n{photo.source},a caption,val\n")
    (joined,) = import_dataset(DatasetFiles((str(tar), f"{tmp_path}/d.csv"))).photos()
    assert (joined.split, joined.captions) == ("val", ("a caption",))


def test_moving_the_tars_keeps_the_digest(tmp_path: Path):
    digests = [import_dataset(shard(tmp_path / folder / "laion" / "0.tar", 7).parent).digest() for folder in "ab"]
    assert digests[0] == digests[1]


def test_tars_in_a_bucket(tmp_path: Path, s3_server: S3Server):
    root = f"s3://{s3_server.bucket}/{tmp_path.name}/laion"
    for number in range(2):
        path = shard(tmp_path / f"{number:05d}.tar", number)
        for each in (path, path.with_suffix(".parquet")):
            open_store(root).put_if_absent(each.name, each.read_bytes())
    for given in (root, f"{root}/{{00000..00001}}.tar", f"{root}/000*.tar"):
        manifest = import_dataset(given)
        assert (manifest.name, manifest.root) == ("laion", root)
        assert list(photos_of(manifest)) == [*expected(0), *expected(1)]
    assert list(photos_of(import_dataset(f"val={root}/00001.tar"))) == expected(1, "val")
    with pytest.raises(UserError, match=rf"^{root}/00002.tar: no such file; correct the data set"):
        import_dataset(f"{root}/{{00000..00002}}.tar")
    with pytest.raises(UserError, match=rf"^the photos are in s3://other and {root}; give files of one bucket"):
        import_dataset(DatasetFiles((f"{root}/00000.tar", "s3://other/{0..1}.tar")))


def test_faulty_tars_are_named_and_the_others_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "laion"
    shard(folder / "0.tar", 0)
    write_tar(folder / "1.tar", [("5.jpg", b"x"), ("6.txt", b"caption"), ("7.txt", b"")])
    data = shard(folder / "2.tar", 2).read_bytes()
    (folder / "2.tar").write_bytes(data[: data.index(b"jpg 2 1") + 10])
    (folder / "3.tar").write_bytes(b"")
    write_tar(folder / "4.tar", [])
    manifest = import_dataset(folder)
    assert [photo.key for photo in manifest.photos()] == ["000000000", "000000001", "5", "000020000", "000020001"]
    assert capsys.readouterr().err.splitlines() == [
        "2 tars are truncated (2.tar, 3.tar); photos beyond their end are missing",
        "1 texts in tars are left out (1.tar/6.txt): no image has their name",
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("{000..1.tar", "its braces are not balanced"),
        ("{0..1}.tar", "/1.tar: no such file"),
        ("none.tar", "/none.tar: no such file"),
        ("empty.tar", "/empty.tar: no image in it; a tar of images has members such as 000.jpg and 000.txt"),
        ("gz.tar", "/gz.tar is an archive or compressed; unpack it .* as an uncompressed .tar"),
        ("text.tar", "/text.tar: not an uncompressed tar"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, name: str, message: str):
    shard(tmp_path / "0.tar", 0)
    write_tar(tmp_path / "empty.tar", [("a.csv", b"uri\n")])
    (tmp_path / "gz.tar").write_bytes(b"\x1f\x8b gzip")
    (tmp_path / "text.tar").write_bytes(b"uri,caption\n" * 100)
    with pytest.raises(UserError, match=message):
        import_dataset(tmp_path / name)


def test_a_file_whose_name_has_braces_is_taken_literally(tmp_path: Path):
    assert len(list(photos_of(import_dataset(shard(tmp_path / "{0..3}.tar", 0))))) == 2


@pytest.mark.parametrize(
    ("location", "name"),
    [
        ("/data/laion/00000.tar", "laion"),
        ("/data/laion/{00000..00041}.tar", "laion"),
        ("/data/cc3m-train-{0000..0575}.tar", "cc3m-train"),
        ("/data/coco2017.tar", "coco2017"),
        ("/data/laion.v2", "laion.v2"),
    ],
)
def test_names(location: str, name: str):
    assert webdataset_name(location) == name
