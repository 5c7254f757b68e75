"""The shard plan: every photo in one shard, names that follow from content, stability when a data set changes."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from pipelines.datasets.manifest import Manifest, Photo
from pipelines.features.shard_plan import EarlierShards, PlannedShard, digest_of, plan_parts, plan_shards

PHOTOS = [Photo(f"{split}{i}", f"{split}{i}.jpg", split, ("c",)) for i in range(5) for split in ("train", "val")]


def manifest(photos: list[Photo]) -> Manifest:
    return Manifest.build("m", "/photos", photos)


def planned(photos: list[Photo], extends: Iterable[PlannedShard] = ()) -> list[PlannedShard]:
    """Plans shards of two photos, behind those of an earlier extraction."""
    number = {(shard.split, photo.key): shard.number for shard in extends for photo in shard.photos}
    rows = [number.get((photo.split, photo.key), -1) for photo in photos]
    ends = {split: max(shard.number for shard in extends if shard.split == split) + 1 for split, _ in number}
    return list(plan_shards(manifest(photos), 2, EarlierShards(np.array(rows), ends)))


def keys(shards: list[PlannedShard]) -> list[tuple[str, int, list[str]]]:
    return [(shard.split, shard.number, [photo.key for photo in shard.photos]) for shard in shards]


def test_every_photo_is_in_one_shard_of_its_split_in_order():
    shards = list(plan_shards(manifest(PHOTOS), 2))
    assert keys(shards) == [
        ("train", 0, ["train0", "train1"]),
        ("train", 1, ["train2", "train3"]),
        ("train", 2, ["train4"]),
        ("val", 0, ["val0", "val1"]),
        ("val", 1, ["val2", "val3"]),
        ("val", 2, ["val4"]),
    ]
    assert shards[1].name().startswith("features-train-000001-")


def test_names_follow_from_content():
    shard = planned(PHOTOS)[0]
    first, second = shard.photos
    others = [
        replace(shard, photos=[first]),
        replace(shard, photos=[second, first]),
        replace(shard, photos=[replace(first, captions=("d",)), second]),
        replace(shard, photos=[replace(first, source="x.jpg"), second]),
    ]
    names = {shard.name(), shard.name({"train0": "aa"}), shard.name({"train0": "bb"}), *(o.name() for o in others)}
    assert len(names) == 3 + len(others)
    # The version token is not content.
    touched = replace(shard, photos=[replace(first, version_token="later"), second])
    assert touched.name() == shard.name() == shard.name({})


def test_added_photos_get_new_shards_and_the_others_stay():
    first = planned(PHOTOS)
    added = [Photo(f"new{i}", f"new{i}.jpg", "train", ("c",)) for i in range(3)]
    grown = planned([*added, *PHOTOS], first)
    assert [shard for shard in grown if shard in first] == first
    assert keys([shard for shard in grown if shard not in first]) == [
        ("train", 3, ["new0", "new1"]),
        ("train", 4, ["new2"]),
    ]


def test_removed_and_moved_photos_change_only_their_shards():
    first = planned(PHOTOS)
    changed = [replace(p, split="val") if p.key == "train3" else p for p in PHOTOS if p.key not in ("train0", "train4")]
    assert keys(planned(changed, first)) == [
        ("train", 0, ["train1"]),
        ("train", 1, ["train2"]),
        ("val", 0, ["val0", "val1"]),
        ("val", 1, ["val2", "val3"]),
        ("val", 2, ["val4"]),
        ("val", 3, ["train3"]),
    ]


def test_parts_keep_the_order_and_are_named_by_content():
    photos = [photo for photo in PHOTOS if photo.split == "train"]
    (shard,) = plan_shards(manifest(photos), 5)
    assert [part.name for part in plan_parts(shard.name(), shard.photos, 5)] == [shard.name()]
    parts = plan_parts(shard.name(), shard.photos, 2)
    assert [[photo.key for photo in part.photos] for part in parts] == [
        ["train0", "train1"],
        ["train2", "train3"],
        ["train4"],
    ]
    assert [part.name for part in parts] == [
        f"{shard.name()}.part-{number:04d}-{digest_of(part.photos)[:8]}" for number, part in enumerate(parts)
    ]
