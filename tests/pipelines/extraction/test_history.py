"""What a feature set has of a manifest's photos, and which of them must be read again. Nothing runs on Ray."""

from dataclasses import replace
from pathlib import Path

from pipelines.datasets.manifest import Manifest, Photos
from pipelines.extraction.history import History
from pipelines.extraction.receipt_entries import ReceiptEntries
from pipelines.features.feature_set import FeatureSet
from pipelines.features.shard_plan import digest_of, plan_shards
from tests.support.feature_sets import BROKEN, manifest, write_set


def sha_of(number: int) -> str:
    """Returns the sha256 that `feature_sets.sample` records for a photo."""
    return f"{number:064x}"


class Reader:
    """Returns hashes as `hash_photos` does, and keeps which photos were read."""

    def __init__(self, **sha256: str) -> None:
        self.sha256, self.read = sha256, list[str]()

    def __call__(self, photos: Photos) -> dict[str, str]:
        self.read += [photo.key for photo in photos]
        return {photo.key: self.sha256.get(photo.key, "") for photo in photos}


def history(features: FeatureSet, photos: Manifest, last: bool = True, complete: bool = True) -> History:
    receipts, shards = features.receipts, [receipt.shard for receipt in features.receipts]
    return History(
        features.store, photos, ReceiptEntries(receipts, set(shards) if complete else set(), shards if last else [])
    )


def changed(photos: Manifest, **tokens: str) -> Manifest:
    """Returns the manifest with other version tokens."""
    rows = [replace(photo, version_token=tokens.get(photo.key, photo.version_token)) for photo in photos.photos()]
    return Manifest.build(photos.name, photos.root, rows)


def shards(photos: Manifest) -> list[Photos]:
    return [shard.photos for shard in plan_shards(photos, 2)]  # type: ignore[misc]


def test_unchanged_photos_are_not_read_but_for_a_rejected_one(features: FeatureSet, photos: Manifest):
    found, reader = history(features, photos), Reader()
    assert found.update({}, reader, retry_downloads=False) == ({}, 0)
    assert reader.read == [BROKEN]
    names = [receipt.shard for receipt in features.receipts]
    for number, (shard, name) in enumerate(zip(shards(photos), names, strict=True)):
        assert found.find_shard(name.split("-")[1], shard, digest_of(shard)) == number
        expected = tuple("" if photo.key == BROKEN else name for photo in shard)
        assert found.find_regions(shard) == expected
        assert found.sha256_of(shard) == {
            photo.key: "" if photo.key == BROKEN else sha_of(int(photo.key[1:])) for photo in shard
        }


def test_a_touched_photo_with_the_same_bytes_is_complete(features: FeatureSet, photos: Manifest):
    touched = changed(photos, p0="now")
    found, reader = history(features, touched), Reader(p0=sha_of(0))
    rehashed, _ = found.update({}, reader, retry_downloads=False)
    assert reader.read == ["p0", BROKEN]
    assert rehashed == {"p0": ("p0.png", "now", sha_of(0))}
    first = shards(touched)[0]
    assert found.find_shard("train", first, digest_of(first)) == 0
    again = Reader()  # what was read is stored, so a rerun does not read it
    assert history(features, touched).update(rehashed, again, retry_downloads=False) == ({}, 0)
    assert again.read == [BROKEN]


def test_a_replaced_photo_has_no_regions(features: FeatureSet, photos: Manifest):
    replaced = changed(photos, p0="now")
    found = history(features, replaced)
    found.update({}, Reader(p0="f" * 64), retry_downloads=False)
    first = shards(replaced)[0]
    assert found.find_shard("train", first, digest_of(first)) is None
    assert found.find_regions(first) == ("", features.receipts[0].shard)
    assert found.sha256_of(first) == {"p0": "f" * 64, "p1": sha_of(1)}


def test_a_deleted_photo_keeps_its_recorded_content(features: FeatureSet, photos: Manifest):
    """A local photo without a version token does not exist."""
    deleted = changed(photos, p0="")
    found, reader = history(features, deleted), Reader()
    found.update({}, reader, retry_downloads=False)
    assert reader.read == [BROKEN]
    assert found.find_regions(shards(deleted)[0]) == (features.receipts[0].shard,) * 2


def test_a_failed_download_is_tried_again_on_request(tmp_path: Path):
    rows = list(manifest(tmp_path, 12).photos())
    rows[3] = replace(rows[3], source="http://host/p3.png", version_token="")
    photos = Manifest.build("tiny", str(tmp_path / "photos"), rows)
    features = write_set(tmp_path, photos)
    for retry, expected in ((False, ([], 1)), (True, ([BROKEN], 0))):
        reader = Reader()
        _, not_retried = history(features, photos).update({}, reader, retry_downloads=retry)
        assert (reader.read, not_retried) == expected


def test_other_captions_are_another_shard_with_the_same_regions(features: FeatureSet, photos: Manifest, tmp_path: Path):
    edited = manifest(tmp_path, 12, said="another photo of")
    found = history(features, edited)
    found.update({}, Reader(), retry_downloads=False)
    first = shards(edited)[0]
    assert found.find_shard("train", first, digest_of(first)) is None
    assert found.find_regions(first) == (features.receipts[0].shard,) * 2


def test_photos_stay_in_the_shards_of_the_index(features: FeatureSet, photos: Manifest):
    earlier = history(features, photos).earlier_shards()
    expected = {
        f"p{n}": receipt.number
        for receipt in features.receipts
        for n in range(12)
        if f"p{n}" in [p.key for p in receipt.planned]
    }
    keys = [photo.key for photo in photos.photos()]
    assert dict(zip(keys, earlier.number_of_row.tolist(), strict=True)) == expected
    assert (earlier.next_number["train"], earlier.next_number["val"], earlier.next_number["gallery"]) == (4, 1, 0)
    lost = history(features, photos, complete=False).earlier_shards()  # photos stay, even if a tar was lost since
    assert lost.number_of_row.tolist() == earlier.number_of_row.tolist()
    none = history(features, photos, last=False).earlier_shards()
    assert set(none.number_of_row.tolist()) == {-1}


def test_receipts_without_a_tar_do_not_count(features: FeatureSet, photos: Manifest):
    found, reader = history(features, photos, complete=False), Reader()
    assert found.update({}, reader, retry_downloads=True) == ({}, 0)
    assert reader.read == []
    assert found.find_regions(shards(photos)[0]) == ("", "")
