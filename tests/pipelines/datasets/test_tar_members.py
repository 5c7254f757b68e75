"""Tests of reading single members of a tar file."""

import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from infra.storage.open import open_store
from pipelines.datasets.decode import PhotoError
from pipelines.datasets.importer import import_dataset
from pipelines.datasets.photo_sources import photo_uri, read_photo
from pipelines.datasets.tar_index import index_tar
from pipelines.datasets.tar_members import read_located_member, read_member
from tests.support.processes import wait_until
from tests.support.webdataset_tars import write_tar

NOT_A_TAR = "its tar file does not exist or is not an uncompressed tar"


def reason(uri: str) -> str:
    with pytest.raises(PhotoError) as caught:
        read_photo(uri)
    return str(caught.value)


def test_members_are_read_by_name(tar: Path):
    assert read_photo(f"tar://a.jpg::{tar}") == b"a" * 3000
    assert read_photo(f"tar://deep/b.jpg::file://{tar}") == b"b" * 3000
    assert read_photo(f"tar://./a.jpg::{tar}") == b"a" * 3000


@pytest.mark.parametrize("name", ["a::b.jpg", "a::b::c/d.jpg"])
def test_a_member_may_have_two_colons_in_its_name(tmp_path: Path, name: str):
    tar = write_tar(tmp_path / "photos::of me.tar", [(name, b"a" * 3000)])
    assert read_photo(photo_uri(str(tar), name)) == b"a" * 3000


def test_a_replaced_tar_is_read_again(tmp_path: Path):
    store, members = open_store(str(tmp_path)), [("a.jpg", b"first"), ("b.jpg", b"other")]
    write_tar(tmp_path / "x.tar", members)
    assert read_member(store, "x.tar", "a.jpg", 99) == b"first"
    (tmp_path / "x.tar").unlink()
    write_tar(tmp_path / "x.tar", reversed(members))
    wait_until(lambda: read_member(store, "x.tar", "a.jpg", 99) == b"first", 10)
    assert read_member(store, "x.tar", "b.jpg", 99) == b"other"


def test_at_most_the_requested_bytes_are_read(tar: Path):
    assert read_member(open_store(str(tar.parent)), tar.name, "deep/b.jpg", max_bytes=10) == b"b" * 10


def test_missing_members_and_folders_are_rejected(tar: Path):
    assert reason(f"tar://c.jpg::{tar}") == "not in its tar file"
    assert reason(f"tar://folder::{tar}") == "not in its tar file"


def test_a_missing_truncated_or_compressed_tar_is_rejected(tar: Path):
    assert reason(f"tar://a.jpg::{tar}.gone") == NOT_A_TAR
    truncated = tar.with_name("truncated.tar")
    truncated.write_bytes(tar.read_bytes()[:2000])
    assert reason(f"tar://a.jpg::{truncated}") in ("its tar file is truncated", NOT_A_TAR)
    compressed = tar.with_name("compressed.tar")
    with tarfile.open(compressed, "w:gz") as opened:
        opened.add(tar, "a.jpg")
    assert reason(f"tar://a.jpg::{compressed}") == NOT_A_TAR


def test_links_and_sparse_files_are_rejected(tmp_path: Path):
    """GNU tar writes `--sparse` files in pieces: their bytes are not where a plain file has them."""
    (tmp_path / "plain.jpg").write_bytes(b"p" * 600)
    with (tmp_path / "sparse.jpg").open("wb") as file:
        file.seek(2**20)
        file.write(b"end")
    os.link(tmp_path / "plain.jpg", tmp_path / "link.jpg")
    for number, format_ in enumerate(("gnu", "posix")):
        path = tmp_path / f"{number}.tar"
        names = ["plain.jpg", "sparse.jpg", "link.jpg"]
        subprocess.run(["tar", f"--format={format_}", "--sparse", "-cf", path, *names], cwd=tmp_path, check=True)
        manifest = import_dataset(path)
        plain, sparse, link = (photo_uri(manifest.root, photo.source) for photo in manifest.photos())
        assert read_photo(plain) == read_photo(f"tar://plain.jpg::{path}") == b"p" * 600
        assert reason(sparse) == reason(link) == "a link or a sparse file in its tar file"
        assert reason(f"tar://sparse.jpg::{path}") == reason(f"tar://link.jpg::{path}") == "not in its tar file"


def test_a_place_is_read_by_one_request(tmp_path: Path):
    path = write_tar(tmp_path / "a.tar", [("a.jpg", b"a" * 10_000), ("b.jpg", b"b" * 10_000)])
    store = open_store(str(tmp_path))
    _, image = index_tar(store, path.name).images
    location = f"{image.start}-{image.end}/b.jpg"
    assert read_located_member(store, path.name, location, max_bytes=20_000) == b"b" * 10_000
    assert read_located_member(store, path.name, location, max_bytes=10) == b"b" * 10
    data = path.read_bytes()
    for size, message in ((image.end - 1, "truncated"), (image.start + 100, "changed since"), (0, "changed since")):
        path.write_bytes(data[:size])
        assert message in reason(f"webdataset://{location}::{path}")
    for other in ("5-0/b.jpg", f"{10**12}-{10**13 - 1}/b.jpg", location.replace("b.jpg", "c.jpg")):
        assert reason(f"webdataset://{other}::{path}") == "its tar file has changed since its index was read"
    for other in ("b.jpg", "1-2", "x-2/b.jpg", f"1-{10**13}/b.jpg"):
        assert reason(f"webdataset://{other}::{path}").startswith("not a location in a tar file")
    path.unlink()
    assert reason(f"webdataset://{location}::{path}") == "its tar file does not exist"
