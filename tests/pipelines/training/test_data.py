"""Data of a training in both data modes."""

from pathlib import Path

import numpy as np
import pytest

from pipelines.features.feature_set import FeatureSet
from pipelines.training.batches import ShuffledBatches
from pipelines.training.config import TrainConfig
from pipelines.training.data import batches_of, local_splits
from pipelines.training.shard_cache import CacheConfig, LocalShards
from pipelines.training.streamed_batches import StreamedBatches
from pipelines.training.word_dropout import WordDropoutBatches
from tests.support import feature_sets


@pytest.fixture
def features(tmp_path: Path) -> FeatureSet:
    return feature_sets.write_set(tmp_path, feature_sets.manifest(tmp_path, 12))


def test_data_mode_chooses_the_batches(features: FeatureSet):
    split = features.split("train")
    cached = batches_of(split, TrainConfig(batch_size=4, seed=5, allow_same_photo=True))
    assert cached == ShuffledBatches(split, 4, 5, allow_same_photo=True)
    streamed = batches_of(split, TrainConfig(batch_size=6, seed=5, data_mode="stream", num_workers=3))
    assert streamed == StreamedBatches(split, 6, 5, allow_same_photo=False, num_workers=3)


@pytest.mark.parametrize("data_mode", ["cache", "stream"])
def test_words_are_left_out_in_both_data_modes(features: FeatureSet, data_mode: str):
    split = features.split("train")
    fields = {"batch_size": 4, "seed": 5, "data_mode": data_mode, "num_workers": 1, "allow_same_photo": True}
    complete = batches_of(split, TrainConfig(**fields))  # type: ignore[arg-type]
    found = batches_of(split, TrainConfig(**fields, word_dropout=0.3))  # type: ignore[arg-type]
    assert found == WordDropoutBatches(complete, 0.3, 5)
    kept, everything = (next(iter(each.batches(0, 0, 0, 1))) for each in (found, complete))
    assert kept.photos.tolist() == everything.photos.tolist()
    assert kept.captions != everything.captions


@pytest.mark.parametrize("data_mode", ["cache", "stream"])
def test_only_a_streamed_train_split_stays_in_its_store(features: FeatureSet, data_mode: str, tmp_path: Path):
    config = TrainConfig(data_mode=data_mode)  # type: ignore[arg-type]
    train, val = local_splits(features, config, CacheConfig(str(tmp_path / "cache")))
    assert isinstance(train.shards, LocalShards) == (data_mode == "cache")
    assert isinstance(val.shards, LocalShards)
    for name, split in (("train", train), ("val", val)):
        np.testing.assert_array_equal(split[:], features.split(name)[:])
