"""The accounts of a running extraction: what was complete before, and what is committed."""

import json
from pathlib import Path

import pytest

from infra.errors import UserError
from infra.storage.folder import FolderStore
from pipelines.extraction.ledger import Ledger
from pipelines.extraction.ray_graph import Committed
from pipelines.extraction.reconcile import FeatureSetPlan, ShardTask
from pipelines.features.account import Account
from pipelines.features.receipt import Receipt, Rejection, Written

OFFSETS = ((512, 10), (1536, 10), (2560, 10))
SHARDS = tuple(f"features-train-{number:06d}-00000000" for number in range(3))
"""The first is complete before; of the second, its first part is."""


def receipt(shard: str, *keys: str, rejected: tuple[str, ...] = ()) -> Receipt:
    written = tuple(Written(key, f"{key}.jpg", "", "", OFFSETS) for key in keys)
    return Receipt(shard, 1, "0" * 64, "", written, tuple(Rejection(k, f"{k}.jpg", "unreadable") for k in rejected))


def part(shard: str, number: int, *keys: str, rejected: tuple[str, ...] = ()) -> Receipt:
    return receipt(f"{shard}.part-{number:04d}-00000000", *keys, rejected=rejected)


@pytest.fixture
def ledger() -> Ledger:
    done = {0: Account.of(part(SHARDS[1], 0, "c", rejected=("d",)))}
    tasks = (ShardTask(SHARDS[1], (), "", 2, (), done), ShardTask(SHARDS[2], (), "", 2))  # type: ignore[arg-type]
    return Ledger(FeatureSetPlan(SHARDS, {SHARDS[0]: Account.of(receipt(SHARDS[0], "a", "b"))}, tasks, 9, {}))


def photos(ledger: Ledger) -> int:
    return sum(len(account.keys) for account in ledger.all())


def test_it_starts_with_what_was_complete(ledger: Ledger):
    assert photos(ledger) == 4
    assert set(ledger.accounts) == {SHARDS[0]}


def test_every_photo_is_counted_once(ledger: Ledger):
    assert ledger.add(Committed(SHARDS[1], part(SHARDS[1], 1, "e", "f"), detected=2)) == 2
    assert photos(ledger) == 6
    joined = receipt(SHARDS[1], "c", "e", "f", rejected=("d",))
    assert ledger.add(Committed(SHARDS[1], joined)) == 0  # its parts were counted
    assert ledger.add(Committed(SHARDS[2], receipt(SHARDS[2], "g", rejected=("h", "i")), detected=1)) == 3
    assert photos(ledger) == 9
    assert ledger.detected == 3
    assert [ledger.accounts[name].shard.written for name in SHARDS] == [2, 3, 1]


def test_speeds_count_detected_photos_only(ledger: Ledger):
    spans = [[0, 0, {}], [1, 2, {"fetch": 1}], [2, 3, {"detect": 1}], [3, 4, {"put": 1}]]
    ledger.add(Committed(SHARDS[1], part(SHARDS[1], 1, "e", "f"), detected=0, times=json.dumps(spans)))
    assert ledger.times.report() == {}
    ledger.add(Committed(SHARDS[2], receipt(SHARDS[2], "g", "h", "i"), detected=1, times=json.dumps(spans)))
    assert ledger.times.report()["photos"] == 1


def test_a_shard_is_found_by_its_planned_name(ledger: Ledger):
    """A shard whose name is taken by other photos gets another one."""
    renamed = f"{SHARDS[2][:-8]}ffffffff"
    ledger.add(Committed(SHARDS[2], receipt(renamed, "g")))
    assert ledger.accounts[SHARDS[2]].shard.name == renamed


def test_rejections_of_parts_count_until_the_cap_is_exceeded(ledger: Ledger, tmp_path: Path):
    store = FolderStore(tmp_path)
    ledger.check_max_rejected(store, planned=9, cap=0.2)  # one of 9
    assert store.objects() == {}
    ledger.add(Committed(SHARDS[1], part(SHARDS[1], 1, rejected=("e",))))
    with pytest.raises(
        UserError, match=r"2 of 9 photos are rejected, more than extract\.max_rejected \(0\.2 of them\)"
    ):
        ledger.check_max_rejected(store, planned=9, cap=0.2)
    ledger.check_max_rejected(store, planned=9, cap=0.3)


def test_a_joined_shard_does_not_count_its_rejections_again(ledger: Ledger, tmp_path: Path):
    ledger.add(Committed(SHARDS[1], receipt(SHARDS[1], "c", rejected=("d",))))
    ledger.check_max_rejected(FolderStore(tmp_path), planned=9, cap=0.12)
