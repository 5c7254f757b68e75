"""Tests of the locations that name several tars or Parquet files."""

from pathlib import Path

import pytest

from infra.errors import UserError
from infra.storage.open import open_store
from pipelines.datasets.file_patterns import base_folder, find_files, is_pattern, pattern_name, print_left_out
from pipelines.datasets.listing import Listing
from tests.support.servers import S3Server

NAMES = ("a-0.tar", "a-1.tar", "a-10.tar", "b/a-2.tar", "b/c.parquet", "d?.tar", "note.txt")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a-{1..0}.tar", ["a-1.tar", "a-0.tar"]),
        ("{b/a-2,a-0}.tar", ["b/a-2.tar", "a-0.tar"]),
        ("a-{7..8}.tar", ["a-7.tar", "a-8.tar"]),
        ("*.tar", ["a-0.tar", "a-1.tar", "a-10.tar", "d?.tar"]),
        ("a-1*.tar", ["a-1.tar", "a-10.tar"]),
        ("*/*.tar", ["b/a-2.tar"]),
        ("*/*.parquet", ["b/c.parquet"]),
        ("{a-1,a-}*.tar", ["a-1.tar", "a-10.tar", "a-0.tar"]),
        ("d?*.tar", ["d?.tar"]),
    ],
)
def test_files_of_a_pattern(folder: Path, pattern: str, names: list[str]):
    assert is_pattern(f"{folder}/{pattern}")
    assert find_files(f"{folder}/{pattern}", None, "") == (str(folder), names)


def test_files_of_a_folder_and_one_file(folder: Path, capsys: pytest.CaptureFixture[str]):
    for name in ("a-0.parquet", "a-0_stats.json", "a-2.tar.gz"):
        (folder / name).touch()
    assert find_files(str(folder), Listing(str(folder)), ".tar")[1] == [
        "a-0.tar",
        "a-1.tar",
        "a-10.tar",
        "b/a-2.tar",
        "d?.tar",
    ]
    print_left_out(Listing(str(folder)), ".tar")
    note = f"3 files in {folder} are left out (first a-2.tar.gz): .tar files are read\n"
    assert capsys.readouterr().err == note
    assert find_files(f"{folder}/a-0.tar", None, ".tar") == (str(folder), ["a-0.tar"])
    assert find_files("/a.tar", None, ".tar") == ("/", ["a.tar"])


@pytest.mark.parametrize("location", ["a-0.tar", "d?.tar", "*", "b/{1..2}.csv", "[ab].tar"])
def test_other_locations_are_files_and_folders(folder: Path, location: str):
    assert not is_pattern(f"{folder}/{location}")


def test_a_name_with_braces_or_a_star_is_taken_literally(folder: Path):
    for name in ("{0..3}.tar", "*.parquet"):
        (folder / name).touch()
        assert not is_pattern(f"{folder}/{name}")


def test_a_key_with_braces_or_a_star_is_taken_literally(s3_server: S3Server, tmp_path: Path):
    uri = f"s3://{s3_server.bucket}/{tmp_path.name}"
    for name in ("{0..3}.tar", "b{1/*.parquet"):
        assert is_pattern(f"{uri}/{name}")
        open_store(uri).replace(name, b"x")
        assert not is_pattern(f"{uri}/{name}")
        assert find_files(f"{uri}/{name}", None, "")[1] == [name.rpartition("/")[2]]
    assert is_pattern("s3://no-such-bucket/{0..3}.tar")


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("x-*.tar", "x-*.tar: no such file; correct the data set"),
        ("{0..1.tar", "its braces are not balanced; write {00000..00041}"),
    ],
)
def test_errors_name_the_pattern(folder: Path, location: str, message: str):
    with pytest.raises(UserError) as error:
        find_files(f"{folder}/{location}", None, ".tar")
    assert str(folder) in str(error.value)
    assert message in str(error.value)


def test_a_folder_without_such_files_is_an_error(tmp_path: Path):
    with pytest.raises(UserError, match=f"^{tmp_path}: no .tar file in this folder"):
        find_files(str(tmp_path), Listing(str(tmp_path)), ".tar")


@pytest.mark.parametrize(
    ("location", "base", "name"),
    [
        ("s3://b/laion/{00000..00041}.tar", "s3://b/laion", "laion"),
        ("/data/cc3m-train-{0000..0575}.tar", "/data", "cc3m-train"),
        ("/data/f30k/train-*-of-00010.parquet", "/data/f30k", "train"),
        ("/data/coco2017-0{0..3}.parquet", "/data", "coco2017"),
        ("/data/laion/*/*.tar", "/data/laion", "laion"),
    ],
)
def test_names(location: str, base: str, name: str):
    assert (base_folder(location), pattern_name(location)) == (base, name)
