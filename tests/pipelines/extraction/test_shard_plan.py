"""Plans: every photo in one shard, names that say what is in them, and what stays when a data set changes."""

from dataclasses import replace

from pipelines.datasets.manifest import Manifest, Photo
from pipelines.extraction.shard_plan import Group, feature_set_name, group_photos
from pipelines.features.shards import Receipt, Rejection, Written

PHOTOS = [Photo(f"{split}{i}", f"{split}{i}.jpg", split, ("c",)) for i in range(5) for split in ("train", "val")]


def manifest(photos: list[Photo]) -> Manifest:
    return Manifest.build("m", "/photos", photos)


def receipts(groups: list[Group]) -> list[Receipt]:
    """Those of a finished extraction; the first photo of every shard was rejected."""
    return [
        Receipt(
            group.shard(),
            1,
            "",
            group.rows,
            tuple(Written(photo.key, photo.source, "", "", ()) for photo in group.photos[1:]),
            (Rejection(group.photos[0].key, group.photos[0].source, "bad"),),
        )
        for group in groups
    ]


def keys(groups: list[Group]) -> list[tuple[str, int, list[str]]]:
    return [(group.split, group.number, [photo.key for photo in group.photos]) for group in groups]


def test_every_photo_is_in_one_shard_of_its_split_in_order():
    groups = group_photos(manifest(PHOTOS), 2, [])
    assert keys(groups) == [
        ("train", 0, ["train0", "train1"]),
        ("train", 1, ["train2", "train3"]),
        ("train", 2, ["train4"]),
        ("val", 0, ["val0", "val1"]),
        ("val", 1, ["val2", "val3"]),
        ("val", 2, ["val4"]),
    ]
    assert groups[1].shard().startswith("features-train-000001-")


def test_names_say_what_is_in_them():
    group = group_photos(manifest(PHOTOS), 2, [])[0]
    others = [
        replace(group, photos=group.photos[:1]),
        replace(group, photos=group.photos[::-1]),
        replace(group, photos=(replace(group.photos[0], captions=("d",)), group.photos[1])),
        replace(group, photos=(replace(group.photos[0], source="x.jpg"), group.photos[1])),
    ]
    names = {group.shard(), group.shard({"train0": "aa"}), group.shard({"train0": "bb"}), *(o.shard() for o in others)}
    assert len(names) == 3 + len(others)
    # A file's time of change is no content.
    touched = replace(group, photos=(replace(group.photos[0], version_token="later"), group.photos[1]))
    assert touched.shard() == group.shard() == group.shard({})


def test_added_photos_go_behind_and_the_rest_stays():
    first = group_photos(manifest(PHOTOS), 2, [])
    added = [Photo(f"new{i}", f"new{i}.jpg", "train", ("c",)) for i in range(3)]
    grown = group_photos(manifest([*added, *PHOTOS]), 2, receipts(first))
    assert [group for group in grown if group in first] == first
    assert keys([group for group in grown if group not in first]) == [
        ("train", 3, ["new0", "new1"]),
        ("train", 4, ["new2"]),
    ]


def test_removed_and_moved_photos_leave_their_shard_and_no_other():
    first = group_photos(manifest(PHOTOS), 2, [])
    changed = [replace(p, split="val") if p.key == "train3" else p for p in PHOTOS if p.key not in ("train0", "train4")]
    assert keys(group_photos(manifest(changed), 2, receipts(first))) == [
        ("train", 0, ["train1"]),
        ("train", 1, ["train2"]),
        ("val", 0, ["val0", "val1"]),
        ("val", 1, ["val2", "val3"]),
        ("val", 2, ["val4"]),
        ("val", 3, ["train3"]),
    ]


def test_every_setting_makes_another_feature_set():
    names = [feature_set_name("m", "d-1", 2), feature_set_name("n", "d-1", 2), feature_set_name("m", "d-2", 2)]
    names.append(feature_set_name("m", "d-1", 3))
    assert len(set(names)) == 4
    assert names[0].startswith("m-d-")
