"""Streamed batches: what is read. `test_batches.py` tests both kinds of batches together."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from infra.errors import CorruptDataError, UserError
from pipelines.datasets.manifest import Manifest
from pipelines.features.layout import tar_name
from pipelines.training import streamed_batches
from pipelines.training.streamed_batches import StreamedBatches
from tests.support import feature_sets


def test_resumed_stream_reads_only_the_remaining_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(streamed_batches, "WINDOW", 30)
    rows = [
        replace(photo, captions=tuple(f"{photo.key} caption {i}" for i in range(1 + int(photo.key[1:]) % 5)))
        for photo in feature_sets.manifest(tmp_path, 198).photos()
    ]
    manifest = Manifest.build("tiny", str(tmp_path / "photos"), rows)
    split = feature_sets.write_set(tmp_path, manifest).split("train")
    streamed = StreamedBatches(split, 12, seed=7, allow_same_photo=False, num_workers=3)
    opened: list[str] = []
    read = type(split.store).read

    def recorded(self: object, name: str, *rest: int) -> bytes:
        opened.append(name)
        return read(self, name, *rest)  # type: ignore[arg-type]

    split.captions  # noqa: B018 the manifest is read once
    monkeypatch.setattr(type(split.store), "read", recorded)
    epoch = list(streamed.batches(0, 0, 0, 1))
    everything, opened[:] = list(opened), []
    assert len(everything) == len(set(everything))
    rest = list(streamed.batches(0, len(epoch) - 3, 0, 1))
    assert [batch.captions for batch in rest] == [batch.captions for batch in epoch[-3:]]
    assert len(opened) < len(everything) / 2


def test_features_that_are_not_finite_are_refused(tmp_path: Path):
    photos = feature_sets.manifest(tmp_path, 60)
    nan = np.full((feature_sets.REGIONS, feature_sets.FEATURE_DIM), np.nan, np.float16)
    split = feature_sets.write_set(tmp_path, photos, {"p7": {"regions_RF": nan}}).split("train")
    streamed = StreamedBatches(split, 4, seed=0, allow_same_photo=False, num_workers=1)
    with pytest.raises(UserError, match=r"\.tar: p7\.regions\.npy contains NaN or infinity; extract again"):
        list(streamed.batches(0, 0, 0, 1))


def test_a_lost_shard_is_refused(tmp_path: Path):
    features = feature_sets.write_set(tmp_path, feature_sets.manifest(tmp_path, 60))
    features.store.delete(tar_name(features.index.shards[0].name))
    streamed = StreamedBatches(features.split("train"), 4, seed=0, allow_same_photo=False, num_workers=1)
    with pytest.raises(CorruptDataError, match=r"features-train-000000-\w+\.tar does not exist, but .*; run the"):
        list(streamed.batches(0, 0, 0, 1))
