"""Receipts of a feature set, read when they are looked at and checked against the index."""

from pathlib import Path

import pytest

from infra.errors import UserError
from pipelines.features.stored_receipts import StoredReceipts
from tests.support.feature_sets import manifest, receipt_of, write_set


def test_receipts_are_a_sequence_in_the_order_of_the_index(tmp_path: Path):
    features = write_set(tmp_path, manifest(tmp_path))
    receipts = StoredReceipts(features.store, features.index.shards)
    names = [shard.name for shard in features.index.shards]
    assert len(receipts) == 4
    assert [receipt.shard for receipt in receipts] == names
    assert receipts[2].shard == names[2]
    assert [receipt.shard for receipt in receipts[1:3]] == names[1:3]


@pytest.mark.parametrize("content", [None, b"{}", b""])
def test_a_corrupt_receipt_is_an_error_where_it_is_read(tmp_path: Path, content: bytes | None):
    features = write_set(tmp_path, manifest(tmp_path))
    path = receipt_of(features, "p4")
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    receipts = StoredReceipts(features.store, features.index.shards)
    assert receipts[0].written
    with pytest.raises(UserError, match="the index or a receipt is corrupt"):
        list(receipts)
