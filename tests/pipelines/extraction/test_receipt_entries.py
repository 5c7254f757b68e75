"""The entries of receipts as arrays: one for each photo, in the order of the receipts."""

import numpy as np
import pytest

from pipelines.datasets.manifest_checks import text_hashes
from pipelines.extraction.receipt_entries import ReceiptEntries
from pipelines.features.receipt import Receipt, Rejection, Written

OFFSETS = ((512, 10), (1536, 10), (2560, 10))


def receipt(shard: str, *keys: str, rejected: tuple[str, ...] = (), plan: str = "plan") -> Receipt:
    written = tuple(Written(key, f"{key}.jpg", f"token {key}", f"sha {key}", OFFSETS) for key in keys)
    refused = tuple(Rejection(key, f"{key}.jpg", "unreadable", f"token {key}") for key in rejected)
    return Receipt(shard, 1, "0" * 64, plan, written, refused)


FIRST = receipt("features-train-000000-00000000", "a", "b", rejected=("c",))
LOST = receipt("features-train-000001-00000000", "d")
VAL = receipt("features-val-000000-00000000", "a", plan="of val")
PART = receipt("features-val-000001-00000000.part-0002-00000000", "e", plan="of a part")


@pytest.fixture
def records() -> ReceiptEntries:
    """Entries in which LOST has no tar, and the current index has FIRST and LOST."""
    complete = {FIRST.shard, VAL.shard, PART.shard}
    return ReceiptEntries(iter([FIRST, LOST, VAL, PART]), complete, [FIRST.shard, LOST.shard])


def test_each_photo_of_each_receipt_has_an_entry(records: ReceiptEntries):
    assert records.shard.tolist() == [0, 0, 0, 1, 2, 3]
    assert records.key.tolist() == text_hashes(["a", "b", "c", "d", "a", "e"]).tolist()
    assert records.is_written.tolist() == [True, True, False, True, True, True]
    assert [records.entries(number) for number in range(4)] == [slice(0, 3), slice(3, 4), slice(4, 5), slice(5, 6)]
    assert [account.shard.name for account in records.accounts] == [r.shard for r in (FIRST, LOST, VAL, PART)]


def test_a_photo_that_could_not_be_read_has_no_content(records: ReceiptEntries):
    assert (records.content == 0).tolist() == [False, False, True, False, False, False]
    assert records.content[0] == records.content[4]  # the same bytes in two receipts


def test_a_version_is_key_source_and_token(records: ReceiptEntries):
    (version,) = text_hashes(["b"], ["b.jpg"], ["token b"])
    assert records.version[1] == version
    (touched,) = text_hashes(["b"], ["b.jpg"], ["another token"])
    assert touched not in records.version


def test_complete_receipts_are_found_by_split_and_plan(records: ReceiptEntries):
    assert records.is_complete.tolist() == [True, False, True, True]
    assert records.is_last.tolist() == [True, True, False, False]
    assert dict(records.by_plan) == {
        ("train", "plan"): [0],
        ("val", "of val"): [2],
        ("features-val-000001-00000000", "of a part"): [3],
    }


def test_no_receipts_have_no_entries():
    records = ReceiptEntries([], set(), [])
    assert [len(values) for values in (records.shard, records.key, records.version, records.content)] == [0] * 4
    assert records.is_written.dtype == np.bool_
