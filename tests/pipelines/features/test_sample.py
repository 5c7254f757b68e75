"""Random photos of a feature set for its reports."""

from pathlib import Path

from pipelines.features.sample import sample_photos, sample_records
from tests.support.feature_sets import manifest, write_set


def test_the_sample_is_random_and_covers_every_split(tmp_path: Path):
    features = write_set(tmp_path, manifest(tmp_path, 60))
    keys = [record.key for record in sample_records(features, 20)]
    assert len(set(keys)) == 20
    assert keys == [record.key for record in sample_records(features, 20)]
    assert keys != [record.key for record in sample_records(features, 59)][:20]
    assert len(sample_records(features, 1000)) == 59
    chosen = sample_photos(features, 12)
    assert [record.split for record in chosen] == ["train"] * 4 + ["val"] * 4 + ["test"] * 4
    assert len({record.key for record in chosen}) == 12
    assert all(record.boxes_R4.shape == (3, 4) for record in chosen)
