"""The object store's guarantees, on a folder."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra.errors import UserError
from infra.store import FolderStore, open_store


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def test_create_has_one_winner_among_many_writers(store: FolderStore):
    payloads = [bytes([i]) * 200_000 for i in range(32)]
    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(lambda data: store.create("a/b.tar", data), payloads))
    assert sum(won) == 1
    assert store.read("a/b.tar") == payloads[won.index(True)]
    assert store.names() == {"a/b.tar"}


def test_create_leaves_an_existing_object_alone(store: FolderStore):
    assert store.create("x", b"first")
    assert not store.create("x", b"second")
    assert store.read("x") == b"first"


def test_replace_overwrites_and_reads_ranges(store: FolderStore):
    store.replace("x", b"old")
    store.replace("x", b"0123456789")
    assert store.read("x") == b"0123456789"
    assert store.read("x", 3, 4) == b"3456"
    assert store.read("x", 8) == b"89"


def test_missing_object_and_missing_root(store: FolderStore):
    assert store.names() == set()
    with pytest.raises(FileNotFoundError):
        store.read("nothing")


def test_a_writer_killed_in_the_middle_leaves_no_object(tmp_path: Path):
    """SIGKILL while a large object is being written, many times: the object is whole or absent."""
    code = (
        "import sys; from pathlib import Path; from infra.store import FolderStore\n"
        "print('go', flush=True); s = FolderStore(Path(sys.argv[1]))\n"
        "for i in range(10000): s.create(f'{i}.bin', bytes([i % 251]) * 3_000_000)"
    )
    for delay in (0.01, 0.05, 0.1, 0.2):
        root = tmp_path / f"{delay}"
        writer = subprocess.Popen([sys.executable, "-c", code, str(root)], stdout=subprocess.PIPE, cwd=Path.cwd())
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(delay)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        store = FolderStore(root)
        for name in store.names():
            assert store.read(name) == bytes([int(name.split(".")[0]) % 251]) * 3_000_000


def test_uris(tmp_path: Path):
    assert open_store(f"file://{tmp_path}").uri == str(tmp_path)
    assert open_store(str(tmp_path)).uri == str(tmp_path)
    with pytest.raises(UserError, match="gopher://"):
        open_store("gopher://x/y")
