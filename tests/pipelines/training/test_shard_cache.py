"""Local shard cache: one verified download per shard, size limit, eviction of shards that are not pinned."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from infra import file_lock
from infra.errors import CorruptDataError, UserError
from infra.storage.open import open_store
from pipelines.features.feature_set import FeatureSet
from pipelines.features.layout import tar_name
from pipelines.training.shard_cache import CacheConfig, LocalShards, local_shards
from tests.support import feature_sets
from tests.support.servers import S3Server


@pytest.fixture
def on_s3(s3_server: S3Server, tmp_path: Path) -> FeatureSet:
    """A feature set of 20 shards in a bucket."""
    made = feature_sets.write_set(tmp_path, feature_sets.manifest(tmp_path, 60))
    store = open_store(f"s3://{s3_server.bucket}/{tmp_path.name}")
    for name in made.store.objects():
        store.put_if_absent(name, made.store.read(name))
    return FeatureSet.open(store.uri)


def fetch(features: FeatureSet, folder: Path, gb: float = 1.0) -> LocalShards:
    return local_shards(features.store, features.index.shards, CacheConfig(str(folder), gb), lambda _: None)


def tars(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in folder.glob("*.tar")}


def test_cached_shards_equal_stored_ones_and_are_downloaded_once(on_s3: FeatureSet, tmp_path: Path):
    folder = tmp_path / "cache"
    split = on_s3.split("train")
    cached = split.on_node(fetch(on_s3, folder))
    np.testing.assert_array_equal(cached[:], split[:])
    assert cached.meta == split.meta
    assert [name for receipt in on_s3.receipts if (name := f"{receipt.sha256}.tar") not in tars(folder)] == []
    before = tars(folder)
    fetch(on_s3, folder)
    assert tars(folder) == before


def test_folder_is_read_in_place(tmp_path: Path):
    features = feature_sets.write_set(tmp_path, feature_sets.manifest(tmp_path, 12))
    split = features.split("train")
    cached = split.on_node(fetch(features, tmp_path / "cache", 1e-9))
    np.testing.assert_array_equal(cached[:], split[:])
    assert not (tmp_path / "cache").exists()


def test_shard_that_differs_from_its_receipt_is_refused(on_s3: FeatureSet, tmp_path: Path):
    name = tar_name(on_s3.receipts[0].shard)
    data = bytearray(on_s3.store.read(name))
    data[600] ^= 1
    on_s3.store.replace(name, bytes(data))
    with pytest.raises(UserError, match=r"features-train-.*tar does not have the sha256 in its receipt; .* verify"):
        fetch(on_s3, tmp_path / "cache")
    assert f"{on_s3.receipts[0].sha256}.tar" not in tars(tmp_path / "cache")
    on_s3.store.delete(name)
    with pytest.raises(CorruptDataError, match=rf"^{on_s3.uri}/{name} does not exist, but .*; run the extraction or"):
        fetch(on_s3, tmp_path / "cache")


def test_a_lost_or_empty_file_of_a_folder_is_refused(tmp_path: Path):
    features = feature_sets.write_set(tmp_path, feature_sets.manifest(tmp_path, 12))
    first, second = (Path(features.uri, tar_name(shard.name)) for shard in features.index.shards[:2])
    first.unlink()
    second.write_bytes(b"")
    shards = fetch(features, tmp_path / "cache")
    with pytest.raises(CorruptDataError, match=f"^{first} does not exist, but .*; run the extraction or import"):
        shards.read(first.name, 0, 10)
    with pytest.raises(CorruptDataError, match=f"^{second} does not have the sha256 in its receipt; run"):
        shards.read(second.name, 0, 10)


def test_truncated_and_partial_shards_are_downloaded_again(on_s3: FeatureSet, tmp_path: Path):
    folder = tmp_path / "cache"
    fetch(on_s3, folder)
    first, second = (folder / f"{receipt.sha256}.tar" for receipt in on_s3.receipts[:2])
    intact = first.read_bytes(), second.read_bytes()
    first.write_bytes(intact[0][:100])
    second.rename(second.with_suffix(".part")).write_bytes(intact[1][:100])
    left = second.with_name(f"{'0' * 64}.part")
    users = folder / "download.iso.part"
    for path in (left, users):
        path.write_bytes(b"half")
    fetch(on_s3, folder)
    assert (first.read_bytes(), second.read_bytes()) == intact
    assert list(folder.glob("*.part")) == [users]


def test_least_recently_used_shards_are_evicted_unless_pinned(s3_server: S3Server, on_s3: FeatureSet, tmp_path: Path):
    folder, size = tmp_path / "cache", sum(receipt.size for receipt in on_s3.receipts)
    other = feature_sets.write_set(tmp_path / "b", feature_sets.manifest(tmp_path / "b", 6, "another photo of"))
    store = open_store(f"s3://{s3_server.bucket}/{tmp_path.name}-b")
    for name in other.store.objects():
        store.put_if_absent(name, other.store.read(name))
    other = FeatureSet.open(store.uri)
    more = sum(receipt.size for receipt in other.receipts)
    pinned = fetch(on_s3, folder)
    (folder / "photos.tar").write_bytes(bytes(10 * size))  # a file of the user
    os.utime(folder / "photos.tar", (0, 0))
    with pytest.raises(UserError, match=r"cache.max_gb is .* and other processes read"):
        fetch(other, folder, (size + more - 1) / 1e9)
    del pinned
    fetch(other, folder, (size + more - 1) / 1e9)
    left = tars(folder)
    assert left.pop("photos.tar", None)
    assert {f"{receipt.sha256}.tar" for receipt in other.receipts} <= left.keys()
    gone = [receipt for receipt in on_s3.receipts if f"{receipt.sha256}.tar" not in left]
    assert len(gone) == 1  # no more than what was needed


def test_a_set_above_the_limit_is_refused_before_downloads(on_s3: FeatureSet, tmp_path: Path):
    with pytest.raises(UserError, match=r"cache.max_gb is 1e-06, .* train.data_mode=stream"):
        fetch(on_s3, tmp_path / "cache", 1e-6)
    assert not tars(tmp_path / "cache")


def test_a_file_that_cannot_be_used_is_named(on_s3: FeatureSet, tmp_path: Path):
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / "lock").symlink_to(tmp_path / "gone" / "lock")
    with pytest.raises(UserError, match=r"^cache.folder '.*cache' cannot be used \(No such file or .*lock\); give"):
        fetch(on_s3, folder)


def test_a_cache_that_stays_locked_is_given_up(on_s3: FeatureSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(file_lock, "DEADLINE_S", 0.1)
    folder = tmp_path / "cache"
    folder.mkdir()
    for locked in (folder / "lock", folder / f"{on_s3.receipts[0].sha256}.part"):
        with locked.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            with pytest.raises(UserError, match=f"^{locked}: another process has held its lock"):
                fetch(on_s3, folder)


def test_an_invalid_limit_is_refused():
    for limit in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"cache.max_gb is {limit}; it must be a positive number"):
            CacheConfig(max_gb=limit)


def test_concurrent_processes_share_the_downloads(on_s3: FeatureSet, tmp_path: Path):
    """Three processes; every shard is asked of the store once, and each reads what is stored."""
    code = f"""
import sys
from infra.storage.s3 import S3Store
from tests.pipelines.training.test_shard_cache import fetch
from pipelines.features import feature_set
from pathlib import Path
read = S3Store.read
def recorded(self, name, *rest):
    if name.endswith(".tar"): sys.stdout.write(name + "\\n")
    return read(self, name, *rest)
features = feature_set.FeatureSet.open("{on_s3.uri}")
S3Store.read = recorded
print("ready", flush=True)
sys.stdin.readline()
split = features.split("train").on_node(fetch(features, Path("{tmp_path}/cache")))
print("sum", float(split[:].astype("f8").sum()))
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=120)[0].split("\n") for process in processes]
    downloaded = [line for lines in said for line in lines if line.endswith(".tar")]
    assert sorted(downloaded) == sorted(tar_name(receipt.shard) for receipt in on_s3.receipts)
    sums = {line for lines in said for line in lines if line.startswith("sum")}
    assert sums == {f"sum {float(np.asarray(on_s3.split('train')[:]).astype('f8').sum())}"}
