"""The accounts of receipts, and the check that they contain every photo once."""

from pathlib import Path

import numpy as np
import pytest

from pipelines.datasets.manifest_checks import text_hashes
from pipelines.features.account import Account, check_accounts, key_hashes
from tests.support.feature_sets import BROKEN, manifest, shard_of, write_set


def test_an_account_has_every_photo_and_the_rejected_ones(tmp_path: Path):
    features = write_set(tmp_path, manifest(tmp_path))
    accounts = [Account.of(receipt) for receipt in features.receipts]
    assert [account.shard for account in accounts] == list(features.index.shards)
    assert np.array_equal(np.sort(key_hashes(accounts)), np.sort(text_hashes([f"p{n}" for n in range(6)])))
    (rejected,) = [photo for account in accounts for photo in account.rejected]
    assert rejected == ("train", BROKEN, f"{BROKEN}.png", "not an image", shard_of(features, BROKEN), False)


def test_a_lost_or_repeated_photo_is_a_defect(tmp_path: Path):
    planned = manifest(tmp_path)
    accounts = [Account.of(receipt) for receipt in write_set(tmp_path, planned).receipts]
    check_accounts(accounts, planned, "uri")
    for wrong in (accounts[1:], [*accounts, accounts[0]], []):
        with pytest.raises(RuntimeError, match="uri: planned 6 photos, written"):
            check_accounts(wrong, planned, "uri")
