"""Receipts of partitions: they survive a round trip, and nothing else is read as one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.storage.folder import FolderStore
from pipelines.search.layout import FILES
from pipelines.search.partition import Partition, StoredFile, read_partition_receipt

NAME = "captions-test-000003-0123abcd"
FILE = StoredFile(10, "0" * 64)
PARTITION = Partition(NAME, "tiny", 4, 9, 0, 16, ("features-test-000000-0123abcd",), dict.fromkeys(FILES, FILE))


def test_a_receipt_survives_a_round_trip(tmp_path: Path):
    store = FolderStore(tmp_path)
    store.put_if_absent(f"{NAME}.receipt.json", PARTITION.to_json())
    assert read_partition_receipt(store, NAME) == Partition.from_json(PARTITION.to_json()) == PARTITION


def test_gallery_split_and_size_follow_from_the_receipt():
    assert (PARTITION.gallery, PARTITION.split, PARTITION.size) == ("captions", "test", 40)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d: d.update(format="shan-index/9"), "its format is not shan-index/1"),
        (lambda d: d.pop("dataset"), "field 'dataset' is missing"),
        (lambda d: d.update(more=1), "field 'more' is unknown"),
        (lambda d: d.update(name="../x"), "a partition's name is malformed"),
        (lambda d: d.update(name=7), "a field is missing or has the wrong type"),
        (lambda d: d.update(items=-1), "field 'items' is not a count"),
        (lambda d: d.update(items=True), "field 'items' is not a count"),
        (lambda d: d.update(shards="x"), "field 'shards' is str, not list"),
        (lambda d: d["files"].pop("boxes"), "`files` is not vectors, pooled, boxes, items"),
        (lambda d: d["files"].update(more=d["files"]["boxes"]), "`files` is not vectors, pooled, boxes, items"),
        (lambda d: d["files"]["boxes"].update(sha256="x"), "field 'sha256' is not a sha256"),
        (lambda d: d["files"].update(boxes=3), "a field is missing or has the wrong type"),
    ],
)
def test_a_receipt_with_another_content_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], reason: str
):
    document = json.loads(PARTITION.to_json())
    change(document)
    data = json.dumps(document).encode()
    with pytest.raises(ValueError, match=reason):
        Partition.from_json(data)
    store = FolderStore(tmp_path)
    store.put_if_absent(f"{NAME}.receipt.json", data)
    assert read_partition_receipt(store, NAME) is None


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b"[" * 10**5])
def test_other_bytes_are_not_a_receipt(data: bytes):
    with pytest.raises(ValueError, match=r"JSON|Expecting|decode|nested"):
        Partition.from_json(data)


def test_a_missing_receipt_or_that_of_another_partition_is_none(tmp_path: Path):
    store, other = FolderStore(tmp_path), NAME.replace("test", "val")
    store.put_if_absent(f"{other}.receipt.json", PARTITION.to_json())
    assert read_partition_receipt(store, NAME) is None
    assert read_partition_receipt(store, other) is None
