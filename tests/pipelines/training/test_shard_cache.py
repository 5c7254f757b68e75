"""Shards on a node: downloaded once and checked, kept within the cap, evicted only when nobody holds them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from infra.errors import UserError
from infra.storage.open import open_store
from pipelines.features.feature_set import FeatureSet
from pipelines.features.shards import tar_name
from pipelines.training.shard_cache import CacheConfig, LocalShards, local_shards
from tests.support import feature_sets
from tests.support.servers import S3Server


@pytest.fixture
def on_s3(s3_server: S3Server, tmp_path: Path) -> FeatureSet:
    """A set of 20 shards in a bucket."""
    made = feature_sets.write_set(tmp_path, feature_sets.manifest(tmp_path, 60))
    store = open_store(f"s3://{s3_server.bucket}/{tmp_path.name}")
    for name in made.store.objects():
        store.put_if_absent(name, made.store.read(name))
    return FeatureSet.open(store.uri)


def fetch(features: FeatureSet, folder: Path, gb: float = 1.0) -> LocalShards:
    return local_shards(features.store, features.receipts, CacheConfig(str(folder), gb), lambda _: None)


def tars(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in folder.glob("*.tar")}


def test_what_is_cached_equals_what_is_stored_and_is_downloaded_once(on_s3: FeatureSet, tmp_path: Path):
    folder = tmp_path / "cache"
    split = on_s3.split("train")
    cached = split.on_node(fetch(on_s3, folder))
    np.testing.assert_array_equal(cached[:], split[:])
    assert cached.meta == split.meta
    assert [name for receipt in on_s3.receipts if (name := f"{receipt.sha256}.tar") not in tars(folder)] == []
    before = tars(folder)
    fetch(on_s3, folder)
    assert tars(folder) == before


def test_a_folder_is_read_where_it_is(tmp_path: Path):
    features = feature_sets.write_set(tmp_path, feature_sets.manifest(tmp_path, 12))
    split = features.split("train")
    cached = split.on_node(fetch(features, tmp_path / "cache", 1e-9))
    np.testing.assert_array_equal(cached[:], split[:])
    assert not (tmp_path / "cache").exists()


def test_a_shard_that_is_not_its_receipts_is_refused(on_s3: FeatureSet, tmp_path: Path):
    name = tar_name(on_s3.receipts[0].shard)
    data = bytearray(on_s3.store.read(name))
    data[600] ^= 1
    on_s3.store.replace(name, bytes(data))
    with pytest.raises(UserError, match=r"features-train-.*tar is not what its receipt says; .* verify"):
        fetch(on_s3, tmp_path / "cache")
    assert f"{on_s3.receipts[0].sha256}.tar" not in tars(tmp_path / "cache")


def test_one_cut_short_and_one_half_written_are_fetched_again(on_s3: FeatureSet, tmp_path: Path):
    folder = tmp_path / "cache"
    fetch(on_s3, folder)
    first, second = (folder / f"{receipt.sha256}.tar" for receipt in on_s3.receipts[:2])
    whole = first.read_bytes(), second.read_bytes()
    first.write_bytes(whole[0][:100])
    second.rename(second.with_suffix(".part")).write_bytes(whole[1][:100])
    fetch(on_s3, folder)
    assert (first.read_bytes(), second.read_bytes()) == whole
    assert not list(folder.glob("*.part"))


def test_the_longest_unused_go_first_and_what_is_held_stays(s3_server: S3Server, on_s3: FeatureSet, tmp_path: Path):
    folder, size = tmp_path / "cache", sum(receipt.size for receipt in on_s3.receipts)
    other = feature_sets.write_set(tmp_path / "b", feature_sets.manifest(tmp_path / "b", 6, "another photo of"))
    store = open_store(f"s3://{s3_server.bucket}/{tmp_path.name}-b")
    for name in other.store.objects():
        store.put_if_absent(name, other.store.read(name))
    other = FeatureSet.open(store.uri)
    more = sum(receipt.size for receipt in other.receipts)
    held = fetch(on_s3, folder)
    with pytest.raises(UserError, match=r"cache.max_gb is .* beside what others on this node read"):
        fetch(other, folder, (size + more - 1) / 1e9)
    del held
    fetch(other, folder, (size + more - 1) / 1e9)
    left = tars(folder)
    assert {f"{receipt.sha256}.tar" for receipt in other.receipts} <= left.keys()
    gone = [receipt for receipt in on_s3.receipts if f"{receipt.sha256}.tar" not in left]
    assert len(gone) == 1  # no more than what was needed


def test_a_set_larger_than_the_cap_is_refused_before_anything_is_fetched(on_s3: FeatureSet, tmp_path: Path):
    with pytest.raises(UserError, match=r"cache.max_gb is 1e-06, .* train.data_mode=stream"):
        fetch(on_s3, tmp_path / "cache", 1e-6)
    assert not tars(tmp_path / "cache")


def test_processes_that_begin_at_once_share_the_downloads(on_s3: FeatureSet, tmp_path: Path):
    """Three processes; every shard is asked of the store once, and each reads what is stored."""
    code = f"""
import sys
from infra.storage.s3 import S3Store
from tests.pipelines.training.test_shard_cache import fetch
from pipelines.features.feature_set import FeatureSet
from pathlib import Path
read = S3Store.read
def told(self, name, *rest):
    if name.endswith(".tar"): sys.stdout.write(name + "\\n")
    return read(self, name, *rest)
features = FeatureSet.open("{on_s3.uri}")
S3Store.read = told
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
