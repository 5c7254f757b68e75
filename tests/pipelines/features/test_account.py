"""The accounts of receipts, and the check that they contain every photo once."""

import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipelines.datasets.manifest_checks import text_hashes
from pipelines.features.account import Account, check_accounts, key_hashes
from pipelines.features.receipt import Receipt, Rejection
from tests.support.feature_sets import BROKEN, manifest, shard_of, write_set


def test_an_account_has_every_photo_and_the_rejected_ones(tmp_path: Path):
    features = write_set(tmp_path, manifest(tmp_path))
    accounts = [Account.of(receipt) for receipt in features.receipts]
    assert [account.shard for account in accounts] == list(features.index.shards)
    assert np.array_equal(np.sort(key_hashes(accounts)), np.sort(text_hashes([f"p{n}" for n in range(6)])))
    (rejecting,) = [account for account in accounts if len(account.rejected)]
    assert rejecting.shard.name == shard_of(features, BROKEN)
    assert rejecting.rejected.to_pylist() == [
        {"key": BROKEN, "source": f"{BROKEN}.png", "reason": "not an image", "is_read": False}
    ]


def test_a_rejection_costs_little_more_than_its_texts():
    rows = tuple(Rejection(f"{n:09d}", f"https://h.org/{n:050d}.jpg", "HTTP status 404") for n in range(1000))
    receipt = Receipt("features-val-000000-0123abcd", 1, "", "", (), rows)
    Account.of(receipt)  # the first one imports modules
    tracemalloc.start()
    arrow, python = pa.total_allocated_bytes(), tracemalloc.get_traced_memory()[0]
    account = Account.of(receipt)
    kept = pa.total_allocated_bytes() - arrow + tracemalloc.get_traced_memory()[0] - python
    tracemalloc.stop()
    texts = sum(len(row.key + row.source + row.reason) for row in rows)
    assert len(account.rejected) == 1000
    assert kept < 1.5 * texts


def test_a_lost_or_repeated_photo_is_a_defect(tmp_path: Path):
    planned = manifest(tmp_path)
    accounts = [Account.of(receipt) for receipt in write_set(tmp_path, planned).receipts]
    check_accounts(accounts, planned, "uri")
    for wrong in (accounts[1:], [*accounts, accounts[0]], []):
        with pytest.raises(RuntimeError, match="uri: planned 6 photos, written"):
            check_accounts(wrong, planned, "uri")
