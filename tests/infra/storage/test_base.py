"""The object store's promises, kept alike by a folder and by a bucket of a real S3 server."""

import os
import pickle
import secrets
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra.errors import UserError
from infra.storage import s3 as s3_store
from infra.storage import s3_upload
from infra.storage.base import Store
from infra.storage.folder import FolderStore
from infra.storage.open import open_store, require_lasting
from infra.storage.s3 import S3Store
from infra.storage.s3_client import client
from tests.support.servers import S3Server

ALL_BYTES = bytes(range(256))


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store, at a root of its own."""
    if request.param == "folder":
        return open_store(str(tmp_path / "store"))
    server: S3Server = request.getfixturevalue("s3_server")
    return open_store(f"s3://{server.bucket}/{secrets.token_hex(4)}/run")


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Bytes that S3 takes in three parts, all different."""
    monkeypatch.setattr(s3_store, "MULTIPART_BYTES", 6 << 20)
    monkeypatch.setattr(s3_upload, "PART_BYTES", 5 << 20)  # the least that S3 allows
    return b"".join(i.to_bytes(4, "big") for i in range(3 << 20))


def writer(code: str, store: Store) -> "subprocess.Popen[str]":
    """Another process that runs `code` with `store` in it."""
    start = f"import pickle, sys, time; store = pickle.loads(bytes.fromhex('{pickle.dumps(store).hex()}'))\n"
    return subprocess.Popen(
        [sys.executable, "-c", start + code], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True, cwd=Path.cwd()
    )


def test_create_has_one_winner_among_many_writers(store: Store):
    payloads = [bytes([i]) * 200_000 for i in range(32)]
    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(lambda data: store.create("a/b.tar", data), payloads))
    assert sum(won) == 1
    assert store.read("a/b.tar") == payloads[won.index(True)]
    assert list(store.objects()) == ["a/b.tar"]


def test_create_has_one_winner_among_processes(store: Store):
    """Each race is begun by a line that all processes get together; all write the same bytes."""
    races = 20
    code = (
        "store.objects(); print('ready', flush=True)\n"
        "for line in sys.stdin: print(store.create(line.strip(), b'same' * 9999), flush=True)"
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


def test_create_of_large_objects_has_one_winner(store: Store):
    payloads = [bytes([i]) * (12 << 20) for i in range(3)]
    with ThreadPoolExecutor(3) as pool:
        won = list(pool.map(lambda data: store.create("big", data), payloads))
    assert sum(won) == 1
    assert store.read("big") == payloads[won.index(True)]
    assert store.sweep(remove=False) == []


def test_create_leaves_an_existing_object_alone(store: Store):
    assert store.create("x", b"first")
    before = store.objects()
    assert not store.create("x", b"second")
    assert store.read("x") == b"first"
    assert store.objects() == before


def test_replace_overwrites_and_reads_ranges(store: Store):
    store.replace("x", b"old")
    store.replace("x", b"0123456789")
    assert store.read("x") == b"0123456789"
    assert store.read("x", 3, 4) == b"3456"
    assert store.read("x", 8) == b"89"


def test_reads_end_where_the_object_ends(store: Store):
    store.create("x", b"0123456789")
    assert store.read("x", 8, 100) == b"89"
    assert store.read("x", 10) == b""
    assert store.read("x", 50, 3) == b""
    assert store.read("x", 3, 0) == b""


def test_large_objects_are_whole(store: Store, large: bytes):
    assert store.create("big", large)
    assert store.read("big") == large
    assert store.read("big", (5 << 20) - 3, 7) == large[(5 << 20) - 3 : (5 << 20) + 4]
    assert not store.create("big", large[::-1])
    store.replace("big", large[::-1])
    assert store.read("big") == large[::-1]
    assert store.objects()["big"].size == len(large)
    assert store.sweep(remove=False) == []


def test_empty_and_binary_objects(store: Store):
    assert store.create("empty", b"")
    assert store.create("bytes", ALL_BYTES * 5)
    assert store.read("empty") == b""
    assert store.read("empty", 0, 5) == b""
    assert store.read("bytes") == ALL_BYTES * 5
    assert {name: info.size for name, info in store.objects().items()} == {"bytes": 1280, "empty": 0}


def test_missing_objects_and_a_missing_root(store: Store):
    assert store.objects() == {}
    assert store.sweep(remove=True) == []
    store.delete("nothing")
    for size in (None, 5, 0):
        with pytest.raises(FileNotFoundError, match="nothing"):
            store.read("nothing", 0, size)


def test_delete(store: Store):
    store.create("a/x", b"1")
    store.create("a/y", b"2")
    store.delete("a/x")
    assert list(store.objects()) == ["a/y"]
    assert store.create("a/x", b"3")


def test_names_of_all_kinds_come_back_in_order(store: Store):
    names = ["a.b", "a/b", "a/c/d/e.tar", "B", "ä ö/ü", "per%20cent+plus&and=", "train-000000.tar", "a-b"]
    for name in names:
        assert store.create(name, name.encode())
    assert list(store.objects()) == sorted(names)
    assert [store.read(name).decode() for name in names] == names


def test_a_listing_holds_only_what_is_below_its_root(store: Store):
    below, beside = open_store(f"{store.uri}/part"), open_store(f"{store.uri}/part-2")
    below.create("x", b"1")
    beside.create("y", b"2")
    assert list(below.objects()) == ["x"]
    assert list(store.objects()) == ["part-2/y", "part/x"]


def test_listings_of_more_than_a_page(store: Store):
    names = [f"{i % 7}/{i:04d}" for i in range(1100)]  # S3 gives 1,000 at once
    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(lambda name: store.create(name, name.encode()), names))
    found = store.objects()
    assert list(found) == sorted(names)
    assert {info.size for info in found.values()} == {6}


def test_stamps_tell_changed_bytes(store: Store):
    store.replace("x", b"one")
    store.replace("y", b"one")
    before = store.objects()
    store.replace("x", b"two")
    after = store.objects()
    assert before["x"].size == after["x"].size == 3
    assert before["x"].version_token != after["x"].version_token
    assert before["y"] == after["y"]


def test_a_store_travels_to_other_processes_without_secrets(store: Store):
    store.create("x", b"1")
    carried = pickle.dumps(store)
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"):
        assert os.environ.get(name, "no such secret").encode() not in carried
    assert pickle.loads(carried) == store  # noqa: S301
    other = writer("print(store.create('y', store.read('x') + b'2'))", store)
    assert other.communicate()[0] == "True\n"
    assert store.read("y") == b"12"


def leave_rubbish(store: Store) -> None:
    """What a writer killed in the middle leaves."""
    if isinstance(store, FolderStore):
        (store.root / "a").mkdir()
        (store.root / "a" / ".big.0123abcd").write_bytes(b"half")
    else:
        assert isinstance(store, S3Store)
        target = {"Bucket": store.bucket, "Key": f"{store.prefix}/a/big"}
        upload = client().create_multipart_upload(**target)["UploadId"]
        client().upload_part(**target, UploadId=upload, PartNumber=1, Body=b"half")


def test_sweep_removes_only_what_is_no_object(store: Store):
    store.create("x", b"1")
    leave_rubbish(store)
    assert list(store.objects()) == ["x"]
    for remove in (False, True):
        (left,) = store.sweep(remove)
        assert left.startswith(("a/.big", "a/big"))
    assert store.sweep(remove=False) == []
    assert store.read("x") == b"1"


def test_a_writer_killed_in_the_middle_leaves_no_object(store: Store):
    """SIGKILL while large objects are being written, many times: each is whole or absent."""
    code = (
        "store.objects(); print('go', flush=True)\n"
        "for i in range(10000): store.create(f'{time.time_ns()}-{i}.bin', bytes([i % 251]) * 3_000_000)"
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


def test_uris(tmp_path: Path):
    assert open_store(f"file://{tmp_path}").uri == str(tmp_path)
    assert open_store(str(tmp_path)).uri == str(tmp_path)
    assert open_store("s3://bucket/a/b/").uri == "s3://bucket/a/b"
    assert open_store("s3://bucket").uri == "s3://bucket"
    with pytest.raises(UserError, match="gopher://"):
        open_store("gopher://x/y")


def test_a_relative_folder_of_a_submitted_job_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Ray deletes the folder that a submitted job begins in."""
    there = tmp_path / "runtime_resources" / "working_dir_files" / "_ray_pkg_0"
    there.mkdir(parents=True)
    require_lasting("build/features", "extract.output")
    monkeypatch.chdir(there)
    for lasting in ("s3://bucket/features", str(tmp_path)):
        require_lasting(lasting, "extract.output")
    for lost in ("build/features", "file://build/features"):
        with pytest.raises(UserError, match=rf"extract\.output '{lost}' would be deleted"):
            require_lasting(lost, "extract.output")
