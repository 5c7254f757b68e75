"""Tests of stored indexes: a tar is read once, until it changes or its index is lost."""

import os
from pathlib import Path

import pytest

from infra.errors import UserError
from infra.storage.open import open_store
from pipelines.datasets.decode import PhotoError
from pipelines.datasets.importer import import_dataset
from pipelines.datasets.photo_sources import photo_uri, read_photo
from pipelines.datasets.stored_tar_index import INDEXES, read_tar_index
from pipelines.datasets.tar_index import index_tar
from tests.support.servers import S3Server
from tests.support.webdataset_tars import img2dataset_shard, write_tar


def indexes(folder: Path) -> list[Path]:
    return sorted(Path(folder, INDEXES).iterdir())


def test_a_rerun_does_not_read_the_tars(tmp_path: Path):
    """The tars are replaced by others of the same size and time, which a reader would notice."""
    output = tmp_path / "features"
    path = img2dataset_shard(tmp_path / "0.tar", [("a", b"x", "caption"), ("b", b"y", "")])
    first = import_dataset(path, None, str(output))
    status = path.stat()
    path.write_bytes(bytes(status.st_size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    second = import_dataset(path, None, str(output))
    assert second.table == first.table
    assert len(indexes(output)) == 1


def test_the_index_of_a_faulty_tar_is_not_stored(tmp_path: Path):
    """What is wrong is printed in every run."""
    path = write_tar(tmp_path / "a.tar", [("写.jpg", b"x"), ("写.txt", b"1\n2"), ("c.txt", b"of none")])
    store, output = open_store(str(tmp_path)), str(tmp_path / "out")
    assert read_tar_index(store, "a.tar", output) == index_tar(store, "a.tar")
    path.write_bytes(path.read_bytes()[:2600])
    assert read_tar_index(store, "a.tar", output).is_truncated
    assert not Path(output).exists()
    write_tar(path, [("写.jpg", b"x"), ("写.txt", b"1\n2")])
    built, stored = (read_tar_index(store, "a.tar", output) for _ in range(2))
    assert built == stored == index_tar(store, "a.tar")
    assert len(indexes(tmp_path / "out")) == 1


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
