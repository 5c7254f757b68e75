"""Shards: reproducible bytes that plain WebDataset reads, receipts that describe them, writes exactly once."""

import io
import json
import tarfile
from dataclasses import replace
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset

from infra.canonical_json import canonical_json
from infra.storage.folder import FolderStore
from pipelines.features.layout import receipt_name, tar_name
from pipelines.features.npy import load_npy, save_npy
from pipelines.features.receipt import MEMBERS, Receipt, Rejection, read_receipt
from pipelines.features.shards import OtherPhotosError, Sample, build_tar, commit_shard, join_shards

SHARD = "features-train-000000-0123abcd"
REJECTED = [Rejection("bad", "bad.jpg", "not an image of a known format")]


def samples(count: int = 3, seed: int = 0) -> list[Sample]:
    rng = np.random.default_rng(seed)
    return [
        Sample(
            f"key_{i}",
            rng.normal(size=(36, 2048)).astype(np.float16),
            rng.uniform(size=(36, 4)).astype(np.float32),
            {"captions": ["ein Übungssatz", "two"], "source": f"{i}.jpg", "width": 3, "sha256": f"{i:064d}"},
            f"token {i}",
        )
        for i in range(count)
    ]


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path)


def test_equal_samples_give_equal_bytes():
    assert build_tar(samples()) == build_tar(samples())
    assert build_tar(samples()) != build_tar(samples(seed=1))
    with tarfile.open(fileobj=io.BytesIO(build_tar(samples()))) as tar:
        assert {m.mtime for m in tar} == {0}


@pytest.mark.parametrize("key", ["a", "k" * 200])
@pytest.mark.parametrize("count", [0, 3])
def test_the_bytes_are_those_of_webdatasets_writer(key: str, count: int):
    rows = [replace(sample, key=f"{key}{sample.key}") for sample in samples(count)]
    written = io.BytesIO()
    with webdataset.TarWriter(written, mtime=0) as writer:
        for row in rows:
            members = (save_npy(row.regions_RF), save_npy(row.boxes_R4), canonical_json(row.meta))
            writer.write({"__key__": row.key, **dict(zip(MEMBERS, members, strict=True))})
    assert build_tar(rows) == written.getvalue()


def test_webdataset_reads_a_shard(store: FolderStore):
    commit_shard(store, "features-train-000000", samples(), [])
    read = list(webdataset.WebDataset(str(store.root / "features-train-000000.tar"), shardshuffle=False))
    assert [row["__key__"] for row in read] == ["key_0", "key_1", "key_2"]
    for row, sample in zip(read, samples(), strict=True):
        assert np.array_equal(np.load(io.BytesIO(row["regions.npy"])), sample.regions_RF)
        assert np.load(io.BytesIO(row["regions.npy"])).dtype == np.float16
        assert np.array_equal(np.load(io.BytesIO(row["boxes.npy"])), sample.boxes_R4)
        assert json.loads(row["json"]) == sample.meta


def test_the_receipt_describes_the_stored_bytes(store: FolderStore):
    receipt = commit_shard(store, SHARD, samples(), REJECTED)
    data = (store.root / tar_name(SHARD)).read_bytes()
    assert receipt == Receipt.from_json((store.root / receipt_name(SHARD)).read_bytes())
    assert (receipt.size, receipt.sha256) == (len(data), sha256(data).hexdigest())
    assert json.loads(receipt.to_json())["count"] == 3
    assert receipt.rejected == tuple(REJECTED)
    for row, sample in zip(receipt.written, samples(), strict=True):
        assert (row.key, row.source, row.version_token, row.sha256) == (
            sample.key,
            sample.meta["source"],
            sample.version_token,
            sample.meta["sha256"],
        )
        regions, boxes, meta = (data[offset : offset + size] for offset, size in row.offsets)
        assert len(row.offsets) == len(MEMBERS)
        assert np.array_equal(load_npy(regions), sample.regions_RF)
        assert np.array_equal(load_npy(boxes), sample.boxes_R4)
        assert json.loads(meta) == sample.meta


def test_a_second_writer_changes_nothing(store: FolderStore):
    first = commit_shard(store, SHARD, samples(), REJECTED)
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in store.root.iterdir()}
    assert commit_shard(store, SHARD, samples(seed=1), REJECTED) == first
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in store.root.iterdir()} == before


def test_a_tar_without_receipt_is_adopted(store: FolderStore):
    commit_shard(store, SHARD, samples(), REJECTED)
    receipt = (store.root / receipt_name(SHARD)).read_bytes()
    (store.root / receipt_name(SHARD)).unlink()
    commit_shard(store, SHARD, samples(), REJECTED)
    assert (store.root / receipt_name(SHARD)).read_bytes() == receipt


class JoinedMeanwhile(FolderStore):
    """A folder in which another job has written a tar, and deletes it as soon as this one finds it."""

    deleted = False

    def put_if_absent(self, name: str, data: Any) -> bool:
        if self.deleted or name.endswith(".json"):
            return super().put_if_absent(name, data)
        self.delete(name)
        self.deleted = True
        return False


def test_a_part_that_another_job_deletes_is_written_again(store: FolderStore, tmp_path: Path):
    before = commit_shard(store, SHARD, samples(), REJECTED)
    store.delete(receipt_name(SHARD))
    shared = JoinedMeanwhile(tmp_path)
    assert commit_shard(shared, SHARD, samples(), REJECTED) == before
    assert shared.deleted
    assert store.read(tar_name(SHARD)) == build_tar(samples())


@pytest.mark.parametrize("what", ["fewer", "other bytes"])
def test_a_tar_of_other_photos_is_never_given_a_receipt(store: FolderStore, what: str):
    """A killed run wrote the tar; since then a photo was removed, or its file was replaced."""
    now = samples(3)
    if what == "other bytes":
        now[1].meta["sha256"] = "f" * 64
    store.put_if_absent(tar_name(SHARD), build_tar(samples(2 if what == "fewer" else 3)))
    with pytest.raises(
        OtherPhotosError, match=rf"{SHARD}\.tar has no receipt and contains other photos than planned; delete it"
    ):
        commit_shard(store, SHARD, now, REJECTED)
    assert set(store.objects()) == {tar_name(SHARD)}


@pytest.mark.parametrize("content", [b"{}", b"nonsense", None])
def test_corrupt_or_orphaned_receipt_is_rewritten(store: FolderStore, content: bytes | None):
    commit_shard(store, SHARD, samples(), REJECTED)
    if content is None:
        store.delete(tar_name(SHARD))
    else:
        store.replace(receipt_name(SHARD), content)
        assert read_receipt(store, SHARD) is None
    receipt = commit_shard(store, SHARD, samples(seed=1 if content is None else 0), REJECTED)
    assert read_receipt(store, SHARD) == receipt
    assert receipt.sha256 == sha256(store.read(tar_name(SHARD))).hexdigest()


def test_a_shard_without_photos(store: FolderStore):
    receipt = commit_shard(store, SHARD, [], REJECTED)
    assert (receipt.keys, len(receipt.rejected)) == ((), 1)


@pytest.mark.parametrize("cuts", [[0, 5], [0, 2, 5], [0, 1, 1, 2, 5, 5], [0, 0]])
def test_joined_shards_are_those_written_at_once(tmp_path: Path, cuts: list[int]):
    """Byte for byte, tar and receipt, also if some have no photo."""
    parts, whole, made = FolderStore(tmp_path / "parts"), FolderStore(tmp_path / "whole"), samples(5)[: cuts[-1]]
    receipts = [
        commit_shard(parts, f"{SHARD}.part-{n:04d}-00000000", made[a:b], [Rejection(f"r{n}", f"{n}.jpg", "bad")])
        for n, (a, b) in enumerate(pairwise(cuts))
    ]
    rejected = [row for receipt in receipts for row in receipt.rejected]
    assert join_shards(parts, SHARD, receipts, "digest") == commit_shard(whole, SHARD, made, rejected, "digest")
    for name in (tar_name(SHARD), receipt_name(SHARD)):
        assert parts.read(name) == whole.read(name)
    assert join_shards(parts, SHARD, receipts, "digest").sha256 == sha256(build_tar(made)).hexdigest()


def test_a_join_does_not_replace_other_photos(store: FolderStore):
    commit_shard(store, SHARD, samples(2, seed=1), [])
    parts = [commit_shard(store, f"{SHARD}.part-0000-00000000", samples(2), [])]
    with pytest.raises(OtherPhotosError):
        join_shards(store, SHARD, parts, "")
