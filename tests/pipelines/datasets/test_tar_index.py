"""Tests of the index of a tar: captions by key, names, faults, and how much of a tar is read."""

import tarfile
from pathlib import Path

import pytest

from infra.errors import UserError
from infra.storage.folder import FolderStore
from pipelines.datasets.tar_index import TarIndex, index_tar
from pipelines.datasets.tar_members import read_located_member
from tests.support.webdataset_tars import write_tar


def index(path: Path) -> TarIndex:
    return index_tar(FolderStore(path.parent), path.name)


def captions(path: Path) -> dict[str, tuple[str, ...]]:
    return {image.member: image.captions for image in index(path).images}


def refusal(path: Path, *members: tuple[str, bytes]) -> str:
    with pytest.raises(UserError) as caught:
        index(write_tar(path, members))
    return str(caught.value)


def test_captions_are_found_by_key_in_any_order(tmp_path: Path):
    members = [
        *(("b.txt", b"of b"), ("x/a.jpg", b"1"), ("a.jpg", b"2"), ("./b.jpg", b"3"), ("/c.d/c.jpg", b"4")),
        *(("a.txt", "\ufeffof ä\r\n".encode()), ("x/a.TXT", b"of x/a"), ("c.d/c.json", b'{"caption": "of c\\nd"}')),
        *(("._a.jpg", b""), ("a.cls", b"5"), ("README", b""), ("a.jpg.txt", b"of none")),
    ]
    members += [
        ("my.photo.1.txt", b"of 1"),
        ("my.photo.1.jpg", b"6"),
        ("my.photo.2.jpg", b"7"),
        ("my.photo.2.json", b"{}"),
    ]
    path = write_tar(tmp_path / "a.tar", members)
    assert captions(path) == {
        "my.photo.1.jpg": ("of 1",),
        "my.photo.2.jpg": (),
        "x/a.jpg": ("of x/a",),
        "a.jpg": ("of ä",),
        "b.jpg": ("of b",),
        "c.d/c.jpg": ("of c\nd",),
    }
    assert index(path).orphans == ("a.jpg.txt",)


def test_members_behind_the_end_of_a_tar_are_refused(tmp_path: Path):
    parts = [write_tar(tmp_path / f"{name}.tar", [(f"{name}.jpg", b"1")]).read_bytes() for name in "ab"]
    (tmp_path / "joined.tar").write_bytes(b"".join(parts))
    with pytest.raises(
        UserError, match=r"joined\.tar: members follow its end, as in joined tars; give the tars one by"
    ):
        index(tmp_path / "joined.tar")


@pytest.mark.parametrize(
    ("json", "txt", "found"),
    [
        ('{"caption": "a"}', "b", ("a",)),
        ('{"caption": ["a", " c "]}', "b", ("a", "c")),
        ('{"captions": ["a", ""], "caption": "d"}', "b", ("a",)),
        ('{"caption": null}', "b\nc", ("b", "c")),
        ('{"captions": ["...", "\\u2764"]}', "?\nc", ("c",)),
        ('{"url": "http://host"}', " b ", ("b",)),
        ("[1, 2]", "", ()),
    ],
)
def test_the_json_comes_before_the_text(tmp_path: Path, json: str, txt: str, found: tuple[str, ...]):
    path = write_tar(tmp_path / "a.tar", [("a.jpg", b""), ("a.json", json.encode()), ("a.txt", txt.encode())])
    assert captions(path) == {"a.jpg": found}


@pytest.mark.parametrize("format_", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_places_in_each_format(tmp_path: Path, format_: int):
    names = ["a.jpg", f"{'long/' * 30}b.jpg", *([] if format_ == tarfile.USTAR_FORMAT else [f"{'写真' * 80}.jpg"])]
    path = write_tar(tmp_path / "a.tar", [(name, name.encode() * 9) for name in names], format_)
    found = index(path).images
    assert [image.member for image in found] == names
    for image in found:
        location = f"{image.start}-{image.end}/{image.member}"
        assert read_located_member(FolderStore(tmp_path), "a.tar", location, 10**6) == image.member.encode() * 9


def test_bad_members_are_named(tmp_path: Path):
    path, image = tmp_path / "a.tar", ("x/a.jpg", b"")
    twice = f"{path}: x/a.jpg occurs twice in it; write the tar again with every member once"
    assert refusal(path, image, ("b.jpg", b""), image) == twice
    assert refusal(path, ("x/./a.jpg", b""), image) == twice
    assert f"{path}: x/a.txt occurs twice" in refusal(path, image, ("x/a.txt", b""), ("x/a.txt", b""))
    text = ("x/a.b.txt", b"of a.b")
    assert f"{path}: x/a.b.txt occurs twice" in refusal(path, ("x/a.b.jpg", b""), text, text)
    for name in ("a.jpg.gz", "a.txt.gz", "b.json.zst"):
        assert refusal(path, (name, b"")).startswith(f"{path}: {name} is compressed; write the tar again with")
    for name, data, reason in (
        ("a.txt", b"\xff", "is not valid txt ('utf-8' codec"),
        ("a.json", b'{"caption": ', "is not valid json (Expecting value"),
        ("a.json", b"[" * 100_000, "is not valid json ("),
        (
            "a.json",
            b'{"caption": "a", "caption": "b"}',
            "is not valid json (an object has `caption` twice)",
        ),
        ("a.json", b'[{"caption": "a"}]', 'is not valid json (it is a list; write {"captions": [...]}); correct it'),
        ("a.json", b'["a"]', "is not valid json (it is a list; write"),
        ("a.json", b'{"caption": 5}', "is not valid json (its captions are not text); correct it"),
        ("a.json", b'{"captions": ["a", null]}', "is not valid json (its captions are not text); correct it"),
        ("a.txt", bytes(2**24 + 1), "has 16777217 bytes, captions at most 16 MiB; remove it"),
    ):
        assert f"{path}: x/{name} {reason}" in refusal(path, image, (f"x/{name}", data))
    with tarfile.open(path, "w") as opened:
        info = tarfile.TarInfo("a.txt")
        info.type, info.linkname = tarfile.SYMTYPE, "b.txt"
        opened.addfile(info)
    with pytest.raises(UserError, match=r"a.txt is a link or a sparse file; write the tar again with plain files"):
        index(path)


def test_every_truncation_is_noticed(tmp_path: Path):
    """Images before the end are found, and an image that the end cuts is listed, so that it is rejected."""
    members = [("a.jpg", b"a" * 700), ("a.txt", b"of a"), ("b.jpg", b"b" * 700), ("b.txt", b"of b")]
    path = write_tar(tmp_path / "a.tar", members)
    intact, data = index(path), path.read_bytes()
    end = 2 * (512 + 1024) + 2 * (512 + 512)
    assert not intact.is_truncated
    for size in [*range(0, end, 100), end, end + 511]:
        path.write_bytes(data[:size])
        found = index(path) if size == 0 or size >= 512 else TarIndex(is_truncated=True)
        assert found.is_truncated, size
        found_at = [(image.member, image.start, image.end) for image in found.images]
        assert found_at == [tuple(image[:3]) for image in intact.images if image.start + 512 <= size], size


def test_a_header_that_is_corrupt_ends_the_tar(tmp_path: Path):
    path = write_tar(tmp_path / "a.tar", [("a.jpg", b"a"), ("b.jpg", b"b"), ("c.jpg", b"c")])
    data = bytearray(path.read_bytes())
    data[1024 + 20] ^= 1
    path.write_bytes(data)
    found = index(path)
    assert ([image.member for image in found.images], found.is_truncated) == (["a.jpg"], True)


class CountingStore(FolderStore):
    """Counts the bytes that are read."""

    count = 0

    def read(self, name: str, offset: int = 0, size: int | None = None) -> bytes:
        data = super().read(name, offset, size)
        CountingStore.count += len(data)
        return data


def test_large_images_are_skipped(tmp_path: Path):
    members = [(f"{n}.{kind}", data) for n in range(20) for kind, data in (("jpg", bytes(2**20)), ("txt", b"x"))]
    path = write_tar(tmp_path / "a.tar", members)
    CountingStore.count = 0
    assert len(index_tar(CountingStore(tmp_path), "a.tar").images) == 20
    assert CountingStore.count < path.stat().st_size / 6
