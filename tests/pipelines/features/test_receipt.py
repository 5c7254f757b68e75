"""Receipts: they survive a round trip, their digest is that of the photos, and nothing else is read as one."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra.storage.folder import FolderStore
from pipelines.features.receipt import Receipt, Rejection, Written, read_receipt, read_receipts

SHARD = "features-train-000012-0123abcd"
RECEIPT = Receipt(
    SHARD,
    10240,
    "0" * 64,
    "plan",
    (
        Written("a", "a.jpg", "token a", "1" * 64, ((512, 100), (1536, 50), (2560, 9))),
        Written("b", "b.jpg", "", "", ((3584, 100), (4608, 50), (5632, 9))),
    ),
    (Rejection("c", "c.jpg", "not an image", "token c", "3" * 64),),
)


def test_a_receipt_survives_a_round_trip():
    for receipt in (RECEIPT, replace(RECEIPT, shard=f"{SHARD}.part-0003-01234567", written=(), rejected=())):
        again = Receipt.from_json(receipt.to_json())
        assert again == receipt
        assert again.to_json() == receipt.to_json()


def test_split_number_and_photos_follow_from_the_receipt():
    assert (RECEIPT.split, RECEIPT.number, RECEIPT.keys) == ("train", 12, ("a", "b"))
    assert [photo.key for photo in RECEIPT.planned] == ["a", "b", "c"]


def test_the_digest_leaves_out_what_a_rerun_may_change():
    first, second = RECEIPT.written
    (rejection,) = RECEIPT.rejected
    for same in (
        replace(RECEIPT, written=(replace(first, version_token="touched"), second)),
        replace(RECEIPT, rejected=(replace(rejection, reason="another", version_token="", sha256=""),)),
        replace(RECEIPT, plan_digest="", size=1),
    ):
        assert same.digest == RECEIPT.digest
    for other in (
        replace(RECEIPT, written=(second, first)),
        replace(RECEIPT, written=(replace(first, sha256="2" * 64), second)),
        replace(RECEIPT, written=(replace(first, offsets=((512, 99), (1536, 50), (2560, 9))), second)),
        replace(RECEIPT, rejected=()),
        replace(RECEIPT, rejected=(replace(rejection, key="d"),)),
    ):
        assert other.digest != RECEIPT.digest


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d: d.update(format="shan-features/9"), "the format is not shan-features/0.2"),
        (lambda d: d.update(shard="../x"), "`shard` or `sha256` is malformed"),
        (lambda d: d.update(shard=7), "a field is missing or has the wrong type"),
        (lambda d: d.update(sha256="x"), "`shard` or `sha256` is malformed"),
        (lambda d: d.update(count=3), "`count` differs from the number of written photos"),
        (lambda d: d.pop("rejected"), "a field is missing or has the wrong type"),
        (lambda d: d.update(more=1), "a field is missing or has the wrong type"),
        (lambda d: d["written"][0].update(key=7), "a field of a photo is not text"),
        (lambda d: d["written"][0]["offsets"].pop(), "photo a does not have 3 members"),
        (lambda d: d["written"][0]["offsets"][0].pop(), "not enough values"),
        (lambda d: d["written"][0]["offsets"][0].__setitem__(0, 1.5), "a field is missing or has the wrong type"),
        (lambda d: d["rejected"][0].pop("reason"), "a field is missing or has the wrong type"),
        (lambda d: d["rejected"][0].update(key="\ud800"), "surrogates not allowed"),
    ],
)
def test_a_receipt_with_another_content_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], reason: str
):
    document = json.loads(RECEIPT.to_json())
    change(document)
    data = json.dumps(document).encode()
    with pytest.raises(ValueError, match=reason):
        Receipt.from_json(data)
    store = FolderStore(tmp_path)
    store.put_if_absent(f"{SHARD}.receipt.json", data)
    assert read_receipt(store, SHARD) is None


def test_receipts_are_read_in_order(tmp_path: Path):
    """More than the threads have in progress at once; one is missing."""
    store, names = FolderStore(tmp_path), [f"features-val-{number:06d}-01234567" for number in range(80)]
    for name in names[:-1]:
        store.put_if_absent(f"{name}.receipt.json", replace(RECEIPT, shard=name).to_json())
    *found, missing = read_receipts(store, iter(names))
    assert [receipt.shard for receipt in found if receipt] == names[:-1]
    assert missing is None
