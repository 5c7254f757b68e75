"""The rows of a shard's parts, made without Ray from a stored feature set."""

import numpy as np
import pytest

from infra.errors import UserError
from infra.storage.base import Store
from pipelines.datasets.manifest import Manifest
from pipelines.extraction.cut import Cut, task_row
from pipelines.extraction.operators import PartRow
from pipelines.extraction.reconcile import ShardTask
from pipelines.features.account import NONE_REJECTED, Account
from pipelines.features.feature_set import FeatureSet
from pipelines.features.layout import receipt_name, tar_name
from pipelines.features.manifests import StoredManifest
from pipelines.features.shard_plan import digest_of

NEW = "features-train-000009-01234567"


def task(
    photos: Manifest, rows: list[int], stored: tuple[str, ...] = (), per_part: int = 2, done: tuple[int, ...] = ()
):
    chosen = photos.rows(np.array(rows))
    accounts = dict.fromkeys(done, Account(None, np.empty(0), NONE_REJECTED))  # type: ignore[arg-type]
    return ShardTask(NEW, chosen, digest_of(chosen), per_part, stored, accounts)


def cut(store: Store, photos: Manifest, made: ShardTask) -> list[PartRow]:
    found = Cut(store, StoredManifest.find(store, photos.digest()), made.photos_per_part)(task_row(made))
    assert isinstance(found, list)
    return found


def keys(rows: list[PartRow]) -> list[list[str]]:
    import json

    return [[photo["key"] for photo in json.loads(row["photos"])] for row in rows]


def test_a_task_is_a_row_of_spans(photos: Manifest):
    row = task_row(task(photos, [0, 1, 2, 6, 8], ("a", "a", "", "b", "b")))
    assert (row["shard"], row["photos"], row["stored"]) == (
        NEW,
        "[[0, 3], [6, 7], [8, 9]]",
        '[["a", 2], ["", 1], ["b", 2]]',
    )


def test_a_shard_is_cut_into_its_open_parts(features: FeatureSet, photos: Manifest):
    rows = cut(features.store, photos, task(photos, [0, 1, 2, 3, 6]))
    assert keys(rows) == [["p0", "p1"], ["p2", "p3"], ["p6"]]
    assert {row["shard"] for row in rows} == {NEW}
    assert [row["part"].startswith(f"{NEW}.part-000{n}-") for n, row in enumerate(rows)] == [True] * 3
    assert keys(cut(features.store, photos, task(photos, [0, 1, 2, 3, 6], done=(1,)))) == [["p0", "p1"], ["p6"]]


def test_stored_regions_are_found_in_their_shards(features: FeatureSet, photos: Manifest):
    import json

    first, second = features.receipts[:2]  # p0, p1 and p2; p3 is rejected
    rows = cut(features.store, photos, task(photos, [0, 2, 3], (first.shard, second.shard, ""), per_part=3))
    reuse = [photo["reuse"] for photo in json.loads(rows[0]["photos"])]
    offsets = {p.key: p.offsets for p in (*first.written, *second.written)}
    assert reuse == [
        {"tar": tar_name(first.shard), "offsets": [list(extent) for extent in offsets["p0"]]},
        {"tar": tar_name(second.shard), "offsets": [list(extent) for extent in offsets["p2"]]},
        None,
    ]


def test_a_corrupt_shard_is_not_copied_from(features: FeatureSet, photos: Manifest):
    shard = features.receipts[0].shard
    data = features.store.read(tar_name(shard))
    features.store.replace(tar_name(shard), data[:-1] + b"x")
    with pytest.raises(UserError, match="does not have the sha256 in its receipt"):
        cut(features.store, photos, task(photos, [0], (shard,)))
    cut(features.store, photos, task(photos, [0, 1, 2], (shard, shard, ""), done=(0,)))  # of a complete part


def test_what_another_job_has_replaced_is_an_error(features: FeatureSet, photos: Manifest):
    made = task(photos, [0, 1])
    with pytest.raises(UserError, match=r"manifest-.* another job has replaced it; run again"):
        cut(features.store, photos, ShardTask(NEW, made.photos, "another plan", 2))
    shard = features.receipts[0].shard
    features.store.delete(receipt_name(shard))
    with pytest.raises(UserError, match=f"{shard}: another job has deleted or replaced it; run again"):
        cut(features.store, photos, task(photos, [0], (shard,)))
