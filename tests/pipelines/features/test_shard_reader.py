"""Reading members of shards by offset: verified once, in order, and with a header that must fit."""

from hashlib import sha256
from pathlib import Path

import pytest

from infra.errors import CorruptDataError, UserError
from infra.storage.folder import FolderStore
from pipelines.features.feature_set import FeatureSet
from pipelines.features.layout import tar_name
from pipelines.features.shard_reader import (
    ShardBlock,
    StoredShards,
    read_sample_member,
    read_shard,
    verify_checksum,
    verify_shard_pieces,
)
from tests.support.feature_sets import manifest, sample, write_set
from tests.support.mutations import flip_bit


@pytest.fixture
def features(tmp_path: Path) -> FeatureSet:
    return write_set(tmp_path, manifest(tmp_path))


def shards(features: FeatureSet) -> StoredShards:
    return StoredShards(features.store, {tar_name(r.shard): r.sha256 for r in features.receipts})


def test_members_are_read_by_offset(features: FeatureSet):
    """The source is a complete tar, or the bytes of one photo."""
    for receipt in features.receipts:
        tar = tar_name(receipt.shard)
        for photo in receipt.written:
            for source in (shards(features), ShardBlock.of_photo(features.store, tar, photo)):
                regions, boxes, _ = (
                    bytes(read_sample_member(source, tar, photo.key, number, extent))
                    for number, extent in enumerate(photo.offsets)
                )
                made = sample(next(p for p in manifest(Path("/")).photos() if p.key == photo.key))
                assert regions.endswith(made.regions_RF.tobytes())
                assert boxes.endswith(made.boxes_R4.tobytes())


def test_a_tar_is_read_once_in_passes_over_photos(features: FeatureSet, monkeypatch: pytest.MonkeyPatch):
    read, seen = FolderStore.read, []

    def counted(store: FolderStore, name: str, *extent: int) -> bytes:
        seen.append(name)
        return read(store, name, *extent)

    stored = shards(features)
    first, second = (tar_name(receipt.shard) for receipt in features.receipts[:2])
    monkeypatch.setattr(FolderStore, "read", counted)
    for tar in (first, first, second, second, first):
        stored.read(tar, 0, 512)
    assert seen == [first, second, first]


def test_a_corrupt_tar_is_an_error_that_names_the_fix(features: FeatureSet):
    receipt = features.receipts[0]
    tar = tar_name(receipt.shard)
    flip_bit(Path(features.uri) / tar, 700)
    for read in (
        lambda: shards(features).read(tar, 0, 10),
        lambda: read_shard(features.store, tar, receipt.sha256),
        lambda: verify_shard_pieces(features.store, tar, receipt.sha256),
        lambda: verify_checksum(features.store.read(tar), f"{features.uri}/{tar}", receipt.sha256),
    ):
        with pytest.raises(UserError) as caught:
            read()
        assert str(caught.value) == (
            f"{features.uri}/{tar} does not have the sha256 in its receipt; run `python -m jobs.features verify` to "
            "list every corrupt object, delete them and extract again"
        )


def test_a_lost_tar_is_an_error_that_names_the_fix(features: FeatureSet):
    receipt = features.receipts[0]
    tar = tar_name(receipt.shard)
    features.store.delete(tar)
    with pytest.raises(CorruptDataError, match=rf"^{features.uri}/{tar} does not exist, but .*; run the extraction or"):
        features.split("train")[:]
    with pytest.raises(FileNotFoundError):  # while shards are written, another job may have deleted it
        read_shard(features.store, tar, receipt.sha256)


def test_an_intact_tar_passes_in_pieces(features: FeatureSet):
    for receipt in features.receipts:
        tar = tar_name(receipt.shard)
        verify_shard_pieces(features.store, tar, receipt.sha256)
        assert sha256(read_shard(features.store, tar, receipt.sha256)).hexdigest() == receipt.sha256


@pytest.mark.parametrize(
    ("key", "number", "shift", "longer"),
    [("p1", 0, 0, 0), ("p0", 1, 0, 0), ("p0", 0, 512, 0), ("p0", 0, 0, 1), ("p0", 0, 10**6, 0)],
    ids=["another photo", "another member", "another offset", "another size", "behind the end"],
)
def test_a_member_elsewhere_is_an_error(features: FeatureSet, key: str, number: int, shift: int, longer: int):
    receipt = features.receipts[0]
    tar, (offset, size) = tar_name(receipt.shard), receipt.written[0].offsets[0]
    with pytest.raises(UserError, match=rf"{tar} does not contain {key}\.\S+ at the offset in its receipt; run"):
        read_sample_member(shards(features), tar, key, number, (offset + shift, size + longer))
