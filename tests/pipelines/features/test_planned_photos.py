"""Photos of a manifest by key."""

from pathlib import Path

from pipelines.datasets.manifest_checks import text_hashes
from pipelines.features.planned_photos import PlannedPhotos
from tests.support.feature_sets import manifest


def test_photos_are_found_by_key(tmp_path: Path):
    photos = list(manifest(tmp_path, 30).photos())
    planned = PlannedPhotos(manifest(tmp_path, 30))
    assert planned.find(["p7", "p0", "none", "p29"]) == {key: photos[int(key[1:])] for key in ("p0", "p7", "p29")}
    assert planned.find([]) == {}


def test_the_other_photos_keep_the_order_of_the_manifest(tmp_path: Path):
    planned = PlannedPhotos(manifest(tmp_path, 6))
    assert [photo.key for photo in planned.without(text_hashes(["p4", "p0", "none"]))] == ["p1", "p2", "p3", "p5"]
