"""Tests of reading single members of a tar file."""

import tarfile
from pathlib import Path

import pytest

from infra.storage.open import open_store
from pipelines.datasets.decode import PhotoError
from pipelines.datasets.photo_sources import read_photo
from pipelines.datasets.tar_members import read_member

NOT_A_TAR = "its tar file does not exist or is not an uncompressed tar"


def reason(uri: str) -> str:
    with pytest.raises(PhotoError) as caught:
        read_photo(uri)
    return str(caught.value)


def test_members_are_read_by_name(tar: Path):
    assert read_photo(f"tar://a.jpg::{tar}") == b"a" * 3000
    assert read_photo(f"tar://deep/b.jpg::file://{tar}") == b"b" * 3000
    assert read_photo(f"tar://./a.jpg::{tar}") == b"a" * 3000


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
