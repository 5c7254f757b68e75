"""The contract of an object store, which a folder and a bucket of a real S3 server both fulfil."""

import errno
import os
import pickle
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra.storage.base import Store
from infra.storage.folder import FolderStore
from infra.storage.open import open_store
from infra.storage.pieces import object_pieces
from infra.storage.s3 import S3Store
from infra.storage.s3_client import client
from tests.support.servers import S3Server

ALL_BYTES = bytes(range(256))


def no_hard_links(*_: object) -> None:
    """What `os.link` does on FAT, exFAT and some mounts."""
    raise PermissionError(errno.EPERM, "Operation not permitted")


@pytest.fixture(params=["folder", "folder without hard links", pytest.param("s3", marks=pytest.mark.integration)])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty store at its own root."""
    if request.param.startswith("folder"):
        if request.param != "folder":
            monkeypatch.setattr(os, "link", no_hard_links)
        return open_store(str(tmp_path / "store"))
    server: S3Server = request.getfixturevalue("s3_server")
    return open_store(f"s3://{server.bucket}/{secrets.token_hex(4)}/run")


def writer(code: str, store: Store) -> "subprocess.Popen[str]":
    """Starts another process that runs `code`, in which `store` is the store."""
    start = f"import os, pickle, sys, time; store = pickle.loads(bytes.fromhex('{pickle.dumps(store).hex()}'))\n"
    if os.link is no_hard_links:
        start += f"def no_hard_links(*_): raise PermissionError({errno.EPERM}, '')\nos.link = no_hard_links\n"
    return subprocess.Popen(
        [sys.executable, "-c", start + code], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True, cwd=Path.cwd()
    )


def test_one_of_many_threads_puts_an_object(store: Store):
    payloads = [bytes([i]) * 200_000 for i in range(32)]
    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(lambda data: store.put_if_absent("a/b.tar", data), payloads))
    assert sum(won) == 1
    assert store.read("a/b.tar") == payloads[won.index(True)]
    assert list(store.objects()) == ["a/b.tar"]


def test_one_of_two_processes_puts_an_object(store: Store):
    """A line on stdin starts each race; both processes write the same bytes."""
    races = 20
    code = (
        "store.objects(); print('ready', flush=True)\n"
        "for line in sys.stdin: print(store.put_if_absent(line.strip(), b'same' * 9999), flush=True)"
    )
    writers = [writer(code, store) for _ in range(2)]
    won = []
    for each in writers:
        assert each.stdout is not None
        assert each.stdout.readline() == "ready\n"
    for race in range(races):
        for each in writers:
            assert each.stdin is not None
            each.stdin.write(f"{race}\n")
            each.stdin.flush()
        won.append(sum(each.stdout.readline() == "True\n" for each in writers if each.stdout))
    for each in writers:
        each.communicate()
    assert won == [1] * races


def test_put_if_absent_does_not_change_an_existing_object(store: Store):
    assert store.put_if_absent("x", b"first")
    before = store.objects()
    assert not store.put_if_absent("x", b"second")
    assert store.read("x") == b"first"
    assert store.objects() == before


def test_replace_overwrites_and_read_returns_ranges(store: Store):
    store.replace("x", b"old")
    store.replace("x", b"0123456789")
    assert store.read("x") == b"0123456789"
    assert store.read("x", 3, 4) == b"3456"
    assert store.read("x", 8) == b"89"


def test_reads_end_where_the_object_ends(store: Store):
    store.put_if_absent("x", b"0123456789")
    assert store.read("x", 8, 100) == b"89"
    assert store.read("x", 10) == b""
    assert store.read("x", 50, 3) == b""
    assert store.read("x", 3, 0) == b""


def test_objects_of_many_megabytes(store: Store):
    large = b"".join(i.to_bytes(4, "big") for i in range(3 << 20))
    assert store.put_if_absent("big", large)
    assert store.read("big") == large
    assert store.read("big", (5 << 20) - 3, 7) == large[(5 << 20) - 3 : (5 << 20) + 4]
    assert not store.put_if_absent("big", large[::-1])
    store.replace("big", large[::-1])
    assert store.read("big") == large[::-1]
    assert store.objects()["big"].size == len(large)
    assert store.incomplete_uploads() == []


def test_empty_and_binary_objects(store: Store):
    assert store.put_if_absent("empty", b"")
    assert store.put_if_absent("bytes", ALL_BYTES * 5)
    assert store.read("empty") == b""
    assert store.read("empty", 0, 5) == b""
    assert store.read("bytes") == ALL_BYTES * 5
    assert {name: info.size for name, info in store.objects().items()} == {"bytes": 1280, "empty": 0}


def test_info_is_the_entry_of_the_listing(store: Store):
    store.put_if_absent("a/x", b"12345")
    assert store.info("a/x") == store.objects()["a/x"]
    assert store.info("a") is None
    assert store.info("a/x/y") is None


def test_missing_objects_and_a_missing_root(store: Store):
    assert store.objects() == {}
    assert store.abort_incomplete_uploads() == []
    store.delete("nothing")
    for size in (None, 5, 0):
        with pytest.raises(FileNotFoundError, match="nothing"):
            store.read("nothing", 0, size)


def test_delete(store: Store):
    store.put_if_absent("a/x", b"1")
    store.put_if_absent("a/y", b"2")
    store.delete("a/x")
    assert list(store.objects()) == ["a/y"]
    assert store.put_if_absent("a/x", b"3")


def test_unusual_names_are_listed_in_order(store: Store):
    names = ["a.b", "a/b", "a/c/d/e.tar", "B", "ä ö/ü", "per%20cent+plus&and=", "train-000000.tar", "a-b"]
    for name in names:
        assert store.put_if_absent(name, name.encode())
    assert list(store.objects()) == sorted(names)
    assert [store.read(name).decode() for name in names] == names


def test_a_listing_contains_only_objects_below_its_root(store: Store):
    below, beside = open_store(f"{store.uri}/part"), open_store(f"{store.uri}/part-2")
    below.put_if_absent("x", b"1")
    beside.put_if_absent("y", b"2")
    assert list(below.objects()) == ["x"]
    assert list(store.objects()) == ["part-2/y", "part/x"]


def test_listings_of_more_than_a_page(store: Store):
    names = [f"{i % 7}/{i:04d}" for i in range(1100)]  # an S3 page has 1,000
    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(lambda name: store.put_if_absent(name, name.encode()), names))
    found = store.objects()
    assert list(found) == sorted(names)
    assert {info.size for info in found.values()} == {6}


def test_version_tokens_differ_when_bytes_differ(store: Store):
    store.replace("x", b"one")
    store.replace("y", b"one")
    before = store.objects()
    store.replace("x", b"two")
    after = store.objects()
    assert before["x"].size == after["x"].size == 3
    assert before["x"].version_token != after["x"].version_token
    assert before["y"] == after["y"]


def test_a_pickled_store_contains_no_secrets(store: Store):
    store.put_if_absent("x", b"1")
    carried = pickle.dumps(store)
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"):
        assert os.environ.get(name, "no such secret").encode() not in carried
    assert pickle.loads(carried) == store  # noqa: S301
    other = writer("print(store.put_if_absent('y', store.read('x') + b'2'))", store)
    assert other.communicate()[0] == "True\n"
    assert store.read("y") == b"12"


def leave_incomplete_upload(store: Store) -> None:
    """Leaves what a writer leaves that is killed in the middle of an upload."""
    if isinstance(store, FolderStore):
        (store.root / "a").mkdir()
        (store.root / "a" / ".big.0123abcd").write_bytes(b"half")
        (store.root / "a" / ".env").write_bytes(b"a file of the user")
    else:
        assert isinstance(store, S3Store)
        target = {"Bucket": store.bucket, "Key": f"{store.prefix}/a/big"}
        upload = client().create_multipart_upload(**target)["UploadId"]
        client().upload_part(**target, UploadId=upload, PartNumber=1, Body=b"half")


def test_incomplete_uploads_are_listed_and_aborted(store: Store):
    store.put_if_absent("x", b"1")
    leave_incomplete_upload(store)
    assert list(store.objects()) == ["x"]
    for incomplete in (store.incomplete_uploads, store.abort_incomplete_uploads):
        (name,) = incomplete()
        assert name.startswith(("a/.big", "a/big"))
    assert store.incomplete_uploads() == store.abort_incomplete_uploads() == []
    assert store.read("x") == b"1"
    if isinstance(store, FolderStore):
        assert store.read("a/.env") == b"a file of the user"


def test_a_killed_writer_leaves_no_partial_object(store: Store):
    """A writer of large objects is killed several times: each object is complete or absent."""
    code = (
        "store.objects(); print('go', flush=True)\n"
        "for i in range(10000): store.put_if_absent(f'{time.time_ns()}-{i}.bin', bytes([i % 251]) * 3_000_000)"
    )
    for delay in (0.01, 0.05, 0.1, 0.2):
        process = writer(code, store)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    for name, info in store.objects().items():
        assert info.size == 3_000_000
        assert store.read(name) == bytes([int(name[:-4].split("-")[1]) % 251]) * 3_000_000


def test_an_object_is_written_in_pieces(store: Store):
    """More than are kept in memory, also by a writer that finds the name taken."""
    pieces = [bytes([n]) * (5 << 20) for n in range(5)]
    assert store.put_if_absent("x", iter(pieces))
    assert not store.put_if_absent("x", iter([b"other"]))
    assert b"".join(object_pieces(store, "x")) == store.read("x") == b"".join(pieces)
    store.replace("x", iter(pieces[:1]))
    assert list(object_pieces(store, "x")) == pieces[:1]
    store.replace("x", iter([]))
    assert list(object_pieces(store, "x")) == []
    with pytest.raises(FileNotFoundError):
        next(object_pieces(store, "y"))


def test_pieces_that_fail_write_nothing(store: Store):
    def pieces() -> Iterator[bytes]:
        yield b"x"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.put_if_absent("x", pieces())
    assert (store.objects(), store.incomplete_uploads()) == ({}, [])


def test_a_scan_yields_objects_by_prefix(store: Store):
    for name in ("a/x", "a/y", "ab", "b/x"):
        store.put_if_absent(name, name.encode())
    assert dict(store.scan()) == store.objects()
    assert sorted(name for name, _ in store.scan("a/")) == ["a/x", "a/y"]
    assert sorted(name for name, _ in store.scan("a")) == ["a/x", "a/y", "ab"]
    assert list(store.scan("c")) == []


def test_folders_at_the_root_are_listed(store: Store):
    assert list(store.folders()) == []
    for name in ("a/x", "a/y/z", "ä b/x", "file"):
        store.put_if_absent(name, b"1")
    assert sorted(store.folders()) == ["a", "ä b"]
