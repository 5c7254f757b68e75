"""Tests of stored indexes: a tar is read once, until it changes or its index is lost."""

import hashlib
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.errors import UserError
from infra.storage.folder import file_version_token
from infra.storage.open import open_store
from pipelines.datasets.decode import PhotoError
from pipelines.datasets.importer import import_dataset
from pipelines.datasets.photo_sources import photo_uri, read_photo
from pipelines.datasets.stored_tar_index import INDEXES, _object_name, _to_bytes, read_tar_index, stored_tar_index
from pipelines.datasets.tar_index import TarImage, TarIndex
from tests.support import ROOT
from tests.support.servers import S3Server
from tests.support.webdataset_tars import img2dataset_shard, write_tar

FIXTURE = ROOT / "tests" / "fixtures" / "0.2" / "tar_index"


def indexes(folder: Path) -> list[Path]:
    return sorted(Path(folder, INDEXES).iterdir())


def without_content(path: Path) -> None:
    """Replaces a file by zeros of the same size and time, which a reader would notice."""
    status = path.stat()
    path.write_bytes(bytes(status.st_size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_rerun_does_not_read_the_tars(tmp_path: Path):
    output = tmp_path / "features"
    path = img2dataset_shard(tmp_path / "0.tar", [("a", b"x", "caption"), ("b", b"y", "")])
    first = import_dataset(path, None, str(output))
    without_content(path)
    second = import_dataset(path, None, str(output))
    assert second.table == first.table
    assert len(indexes(output)) == 1


def test_the_index_of_a_faulty_tar_is_stored_with_its_faults(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """What is wrong is printed in every run, but the tar is read once."""
    orphaned = write_tar(tmp_path / "tars" / "0.tar", [("写.jpg", b"x"), ("写.txt", b"1\n2"), ("ü.txt", b"of none")])
    cut = write_tar(tmp_path / "tars" / "1.tar", [("a.jpg", b"x"), ("b.jpg", b"y" * 600)])
    cut.write_bytes(cut.read_bytes()[:1600])
    empty = tmp_path / "tars" / "2.tar"
    empty.touch()
    built = [import_dataset(cut.parent, None, str(tmp_path / "out")), capsys.readouterr().err]
    assert "2 tars are truncated (1.tar, 2.tar)" in built[1]
    assert "1 texts in tars are left out (0.tar/ü.txt)" in built[1]
    assert len(indexes(tmp_path / "out")) == 3
    for path in (orphaned, cut, empty):
        without_content(path)
    again = [import_dataset(cut.parent, None, str(tmp_path / "out")), capsys.readouterr().err]
    assert (again[0].table, again[1]) == (built[0].table, built[1])


def test_an_index_of_the_earlier_format_is_read(tmp_path: Path):
    path = write_tar(tmp_path / "a.tar", [("写.jpg", b"x"), ("写.txt", b"1\n2")])
    store, output = open_store(str(tmp_path)), str(tmp_path / "out")
    expected = read_tar_index(store, "a.tar", output)
    (stored,) = indexes(tmp_path / "out")
    table = pq.read_table(pa.BufferReader(stored.read_bytes()[32:]), use_threads=False)
    stored.unlink()
    identity = json.dumps(["shan-tar-index/1", str(path), file_version_token(path.stat())])
    pq.write_table(table.replace_schema_metadata({"identity": identity}), sink := pa.BufferOutputStream())
    data = sink.getvalue().to_pybytes()
    earlier = stored.with_name(f"{hashlib.sha256(identity.encode()).hexdigest()[:24]}.index")
    earlier.write_bytes(hashlib.sha256(data).digest() + data)
    without_content(path)
    assert read_tar_index(store, "a.tar", output) == expected
    assert indexes(tmp_path / "out") == [earlier]


def test_an_earlier_index_without_captions_is_not_used(tmp_path: Path):
    """Earlier versions did not read `a.caption.txt`."""
    path = write_tar(tmp_path / "a.tar", [("a.jpg", b"x"), ("a.caption.txt", b"of a")])
    store, output = open_store(str(tmp_path)), open_store(str(tmp_path / "out" / INDEXES))
    identity = json.dumps(["shan-tar-index/3", str(path), file_version_token(path.stat())])
    earlier = TarIndex([TarImage("a.jpg", 0, 513)])
    output.replace(_object_name(identity), _to_bytes(earlier, identity, str(path)))
    assert stored_tar_index(output, identity) == earlier
    assert [image.captions for image in read_tar_index(store, "a.tar", str(tmp_path / "out")).images] == [("of a",)]


def test_the_index_of_version_0_2_is_read_and_written(tmp_path: Path):
    """If its tables differ, raise the format version of tar indexes. The fixture is never replaced."""
    write_tar(tmp_path / "a.tar", [("写.jpg", b"x"), ("写.txt", b"1\n2"), ("ü.txt", b"of none")])
    index = read_tar_index(open_store(str(tmp_path)), "a.tar", str(tmp_path / "out"))
    identity = json.dumps(["shan-tar-index/2", "s3://bucket/photos/a.tar", '"0123456789abcdef"'])
    assert stored_tar_index(open_store(str(FIXTURE)), identity) == index
    written, stored = (
        pq.read_table(pa.BufferReader(path.read_bytes()[32:]), use_threads=False)
        for path in (*indexes(tmp_path / "out"), *FIXTURE.iterdir())
    )
    assert written == stored
    assert written.schema.metadata.keys() == stored.schema.metadata.keys()
    assert written.schema.metadata[b"faults"] == stored.schema.metadata[b"faults"]


def test_a_tar_that_has_changed_is_read_again(tmp_path: Path):
    """Also between the import and the reading of a photo: then the photo is rejected."""
    output = str(tmp_path / "features")
    path = write_tar(tmp_path / "a.tar", [("a.jpg", b"a" * 600), ("b.jpg", b"b")])
    first = import_dataset(path, None, output)
    write_tar(path, [("c.jpg", b"c"), ("b.jpg", b"b" * 1000)])
    for photo in first.photos():
        with pytest.raises(PhotoError, match="its tar file has changed since its index was read"):
            read_photo(photo_uri(first.root, photo.source))
    second = import_dataset(path, None, output)
    assert [read_photo(photo_uri(second.root, photo.source)) for photo in second.photos()] == [b"c", b"b" * 1000]
    assert len(indexes(tmp_path / "features")) == 2


@pytest.mark.parametrize("content", [b"", b"PAR1", b"another's"])
def test_a_corrupt_index_is_written_again(tmp_path: Path, content: bytes):
    path, output = write_tar(tmp_path / "a.tar", [("a.jpg", b"a")]), tmp_path / "features"
    other = write_tar(tmp_path / "b.tar", [("b.jpg", b"b")])
    import_dataset(other, None, str(output))
    (of_other,) = indexes(output)
    first = import_dataset(path, None, str(output))
    (of_tar,) = set(indexes(output)) - {of_other}
    good = of_tar.read_bytes()
    of_tar.write_bytes(of_other.read_bytes() if content == b"another's" else content)
    assert import_dataset(path, None, str(output)).table == first.table
    assert of_tar.read_bytes() == good


def test_indexes_in_a_bucket(tmp_path: Path, s3_server: S3Server):
    root = f"s3://{s3_server.bucket}/{tmp_path.name}"
    path = img2dataset_shard(tmp_path / "0.tar", [("a", b"x" * 300_000, "caption"), ("b", b"y", "")])
    open_store(root).put_if_absent("0.tar", path.read_bytes())
    first = import_dataset(f"{root}/0.tar", None, f"{root}/out")
    assert [name.partition("/")[0] for name in open_store(f"{root}/out").objects()] == [INDEXES]
    assert import_dataset(f"{root}/0.tar", None, f"{root}/out").table == first.table


def test_non_unicode_names_and_unwritable_outputs(tmp_path: Path):
    path = write_tar(tmp_path / "a.tar", [("\udcff.jpg", b"a")])
    for output in ("", str(tmp_path / "features")):
        with pytest.raises(UserError, match=r"not UTF-8|not valid Unicode"):
            import_dataset(path, None, output)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"extract.output .* cannot be written"):
        import_dataset(path, None, str(tmp_path / "file" / "x"))
