"""Listings: each folder is listed once, whatever its objects are named, and objects are found by URI."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.errors import UserError
from infra.storage.base import ObjectInfo
from infra.storage.open import open_store
from infra.storage.s3 import S3Store
from pipelines.datasets import listing
from pipelines.datasets.listing import MOST_LISTINGS, Listing, ObjectTokens, common_prefixes
from tests.support.servers import S3Server

NAMES = ["b/é.jpg", "a.jpg", "\udcff.txt", "写真.png", "a/z.jpg"]


@pytest.mark.parametrize("chunk", [2, 100])
def test_a_folder_is_listed_once_and_sorted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int):
    """Also files whose names are not Unicode."""
    monkeypatch.setattr(listing, "_CHUNK", chunk)
    for name in NAMES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode(errors="surrogateescape"))
    objects = [(name, info.version_token) for name, info in open_store(str(tmp_path)).objects().items()]
    scans, scan = [], listing.data_files

    def counted(location: str) -> Iterator[tuple[str, str]]:
        scans.append(location)
        return scan(location)

    monkeypatch.setattr(listing, "data_files", counted)
    listed = Listing(str(tmp_path))
    assert sorted(listed) == sorted(objects)
    assert [name for name, _ in listed if name.isprintable()] == ["a.jpg", "a/z.jpg", "b/é.jpg", "写真.png"]
    assert scans == [str(tmp_path)]


def test_a_folder_that_does_not_exist_is_empty(tmp_path: Path):
    assert list(Listing(f"{tmp_path}/none")) == []


@pytest.mark.parametrize("chunk", [2, 100])
def test_objects_are_found_by_uri(s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int):
    """Objects beside them are not."""
    monkeypatch.setattr(listing, "_CHUNK", chunk)
    roots = [f"s3://{s3_server.bucket}/{tmp_path.name}/{folder}" for folder in ("one", "two", "two/deep")]
    uris = [f"{root}/{name}.jpg" for root in roots for name in ("a", "b", "é")]
    for number, uri in enumerate(uris):
        open_store(uri.rpartition("/")[0]).put_if_absent(uri.rpartition("/")[2], b"%d" % number)
    info = {uri: open_store(uri.rpartition("/")[0]).info(uri.rpartition("/")[2]) for uri in uris}
    tokens = {uri: found.version_token for uri, found in info.items() if found}
    assert len(set(tokens.values())) == 9
    wanted = [uri for uri in uris if not uri.endswith("b.jpg")] + [f"{roots[0]}/none.jpg"]
    objects = ObjectTokens(iter(wanted))
    assert objects.find(wanted) == {uri: tokens[uri] for uri in wanted[:-1]}
    assert objects.find([uris[1], wanted[-1]]) == {}
    assert objects.find(uris[8:] + uris[:1]) == {uris[8]: tokens[uris[8]], uris[0]: tokens[uris[0]]}
    assert ObjectTokens([wanted[-1]]).find(wanted) == {}
    assert ObjectTokens([]).find(wanted) == {}


def test_prefixes_are_the_longest_that_are_few_enough():
    days = [f"s3://b/2026/day-{day:03d}/" for day in range(70)]
    assert common_prefixes(days[:60]) == days[:60]
    assert common_prefixes([*days[:3], f"{days[1]}morning/"]) == days[:3]
    assert common_prefixes(days) == [f"s3://b/2026/day-{tens:02d}" for tens in range(7)]
    assert common_prefixes([*days, "s3://b/other/deep/"])[-1] == "s3://b/other/deep/"
    hashes = [f"s3://b/{number:03x}/" for number in range(4096)]
    assert common_prefixes(hashes) == [f"s3://b/{number:x}" for number in range(16)]
    assert common_prefixes([f"s3://b/{chr(ord('一') + number)}/" for number in range(70)]) == ["s3://b/"]


def test_only_prefixes_with_wanted_objects_are_listed(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch):
    scan, listed = S3Store.scan, list[str]()

    def recorded(store: S3Store, prefix: str = "") -> Iterator[tuple[str, ObjectInfo]]:
        for name, info in scan(store, prefix):
            listed.append(f"{store.uri}/{name}")
            yield name, info

    monkeypatch.setattr(S3Store, "scan", recorded)
    store = open_store(f"s3://{s3_server.bucket}")
    names = [f"listing-day-{number:03d}/x.jpg" for number in range(MOST_LISTINGS + 6)]
    for name in (*names, "another/x.jpg", "listing-days/x.jpg"):
        store.put_if_absent(name, b"x")
    wanted = [f"{store.uri}/{name}" for name in names]
    assert set(ObjectTokens(wanted).find(wanted)) == set(wanted)
    assert sorted(listed) == wanted


def test_a_uri_without_an_object_is_refused():
    with pytest.raises(UserError, match=r"photo s3://bucket names no object; write s3://bucket/key"):
        ObjectTokens(["s3://bucket"])
