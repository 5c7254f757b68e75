"""Random photos of a feature set for its reports."""

from pathlib import Path

from pipelines.features.sample import sample_splits, sample_uniformly
from tests.support.feature_sets import manifest, write_set


def test_the_sample_is_random_and_covers_every_split(tmp_path: Path):
    features = write_set(tmp_path, manifest(tmp_path, 60))
    keys = [photo.key for photo in sample_uniformly(features, 20)]
    assert len(set(keys)) == 20
    assert keys == [photo.key for photo in sample_uniformly(features, 20)]
    assert keys != [photo.key for photo in sample_uniformly(features, 59)][:20]
    assert len(sample_uniformly(features, 1000)) == 59
    chosen = sample_splits(features, 12)
    assert [photo.split for photo in chosen] == ["train"] * 4 + ["val"] * 4 + ["test"] * 4
    assert len({photo.key for photo in chosen}) == 12
    assert all(photo.boxes_R4.shape == (3, 4) for photo in chosen)
