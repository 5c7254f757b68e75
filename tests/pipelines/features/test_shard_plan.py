"""The shard plan: every photo in one shard, names that follow from content, stability when a data set changes."""

from dataclasses import replace

from pipelines.datasets.manifest import Manifest, Photo
from pipelines.features.receipt import Receipt, Rejection, Written
from pipelines.features.shard_plan import PlannedShard, plan_shards

PHOTOS = [Photo(f"{split}{i}", f"{split}{i}.jpg", split, ("c",)) for i in range(5) for split in ("train", "val")]


def manifest(photos: list[Photo]) -> Manifest:
    return Manifest.build("m", "/photos", photos)


def receipts(shards: list[PlannedShard]) -> list[Receipt]:
    """Receipts of a finished extraction in which the first photo of every shard was rejected."""
    return [
        Receipt(
            shard.name(),
            1,
            "",
            shard.plan_digest,
            tuple(Written(photo.key, photo.source, "", "", ()) for photo in shard.photos[1:]),
            (Rejection(shard.photos[0].key, shard.photos[0].source, "bad"),),
        )
        for shard in shards
    ]


def keys(shards: list[PlannedShard]) -> list[tuple[str, int, list[str]]]:
    return [(shard.split, shard.number, [photo.key for photo in shard.photos]) for shard in shards]


def test_every_photo_is_in_one_shard_of_its_split_in_order():
    shards = plan_shards(manifest(PHOTOS), 2, [])
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
    shard = plan_shards(manifest(PHOTOS), 2, [])[0]
    others = [
        replace(shard, photos=shard.photos[:1]),
        replace(shard, photos=shard.photos[::-1]),
        replace(shard, photos=(replace(shard.photos[0], captions=("d",)), shard.photos[1])),
        replace(shard, photos=(replace(shard.photos[0], source="x.jpg"), shard.photos[1])),
    ]
    names = {shard.name(), shard.name({"train0": "aa"}), shard.name({"train0": "bb"}), *(o.name() for o in others)}
    assert len(names) == 3 + len(others)
    # The version token is not content.
    touched = replace(shard, photos=(replace(shard.photos[0], version_token="later"), shard.photos[1]))
    assert touched.name() == shard.name() == shard.name({})


def test_added_photos_get_new_shards_and_the_others_stay():
    first = plan_shards(manifest(PHOTOS), 2, [])
    added = [Photo(f"new{i}", f"new{i}.jpg", "train", ("c",)) for i in range(3)]
    grown = plan_shards(manifest([*added, *PHOTOS]), 2, receipts(first))
    assert [shard for shard in grown if shard in first] == first
    assert keys([shard for shard in grown if shard not in first]) == [
        ("train", 3, ["new0", "new1"]),
        ("train", 4, ["new2"]),
    ]


def test_removed_and_moved_photos_change_only_their_shards():
    first = plan_shards(manifest(PHOTOS), 2, [])
    changed = [replace(p, split="val") if p.key == "train3" else p for p in PHOTOS if p.key not in ("train0", "train4")]
    assert keys(plan_shards(manifest(changed), 2, receipts(first))) == [
        ("train", 0, ["train1"]),
        ("train", 1, ["train2"]),
        ("val", 0, ["val0", "val1"]),
        ("val", 1, ["val2", "val3"]),
        ("val", 2, ["val4"]),
        ("val", 3, ["train3"]),
    ]
