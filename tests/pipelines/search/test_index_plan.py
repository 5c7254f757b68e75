"""The plan of partitions: complete, stable while a feature set grows, and one gallery only."""

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from infra.errors import UserError
from pipelines.datasets.manifest import Manifest
from pipelines.features.feature_set import FeatureSet
from pipelines.models.load import LoadedModel
from pipelines.search.index_plan import PartitionTask, plan_index, plan_partitions, require_one_gallery
from tests.support.feature_sets import manifest, write_set
from tests.support.indexes import SMALL, build_here, loaded
from tests.support.small_models import small_set


def names(features: FeatureSet, size: int) -> list[str]:
    return [task.name for task in plan_partitions([features], "photos", size)]


@pytest.mark.parametrize("size", [1, 2, 5, 8, 1000])
def test_every_shard_is_in_one_partition(indexed_features: FeatureSet, size: int):
    tasks = list(plan_partitions([indexed_features], "captions", size))
    shards = Counter(shard.name for task in tasks for shard in task.shards)
    assert shards == Counter(shard.name for shard in indexed_features.index.shards if shard.written)
    assert all(len({shard.split for shard in task.shards}) == 1 for task in tasks)
    assert len({task.name for task in tasks}) == len(tasks)
    biggest = max(sum(shard.written for shard in task.shards) for task in tasks)
    assert biggest <= max(size, 2)
    assert [PartitionTask.from_row(task.to_row()) for task in tasks] == tasks


def test_growth_keeps_all_but_the_last_partition_of_a_split(tmp_path: Path):
    before = names(small_set(tmp_path, 60), 8)
    after = names(small_set(tmp_path, 84), 8)
    kept = [name for name in before if name in after]
    lost = Counter(name.split("-")[1] for name in before if name not in after)
    assert kept
    assert set(lost.values()) <= {1}
    assert names(small_set(tmp_path / "again", 84), 8) == after  # as if it had never been smaller


def test_a_name_depends_on_data_set_and_shards(tmp_path: Path):
    photos = manifest(tmp_path, 12)
    features = write_set(tmp_path / "a", photos)
    other = write_set(tmp_path / "b", Manifest.build("other", photos.root, photos.photos()))
    changed = write_set(tmp_path / "c", photos, {"p0": {"meta": {"captions": ["another one"]}}})
    first, second, third = (names(found, 100) for found in (features, other, changed))
    assert not set(first) & set(second)
    assert [name for name in first if name not in third] == [name for name in first if name.startswith("photos-train")]


def test_galleries_that_are_not_asked_for_are_kept(
    indexed_features: FeatureSet, indexed_model: LoadedModel, tmp_path: Path
):
    build_here(indexed_model, [indexed_features], tmp_path, replace(SMALL, galleries="photos"))
    captions = replace(SMALL, galleries="captions", output=str(tmp_path))
    plan = plan_index(indexed_model, [indexed_features], captions)
    assert {task.gallery for task in plan.missing} == {"captions"}
    assert {task.gallery for task in plan.tasks} == {"photos", "captions"}
    build = build_here(indexed_model, [indexed_features], tmp_path, captions)
    assert set(build.document.galleries) == {"photos", "captions"}
    assert plan_index(indexed_model, [indexed_features], replace(captions, galleries="photos")).is_published()


def test_feature_sets_that_form_no_gallery_are_refused(tmp_path: Path, indexed_features: FeatureSet):
    other = write_set(tmp_path / "b", manifest(tmp_path, 12), fingerprint="made-up-9999")
    with pytest.raises(
        UserError, match=r"made-up-9999 but .* made-up-0123; an index needs feature sets of one detector"
    ):
        require_one_gallery([indexed_features, other])
    again = replace(indexed_features)
    with pytest.raises(UserError, match="--features has two feature sets of the data set 'tiny'; give one of them"):
        require_one_gallery([indexed_features, again])


def test_an_index_of_another_data_set_of_that_name_is_refused(tmp_path: Path):
    first = write_set(tmp_path / "a", manifest(tmp_path / "a", 12))
    photos = [replace(photo, key=f"p1{photo.key[1:]}") for photo in manifest(tmp_path / "b", 12).photos()]
    other = write_set(tmp_path / "b", Manifest.build("tiny", str(tmp_path / "b"), photos))
    model = loaded(tmp_path / "model", first)
    build = build_here(model, [first], tmp_path / "indexes")
    config = replace(SMALL, output=str(tmp_path / "indexes"))
    error = rf"{build.store.uri} is the index of another data set named 'tiny', {first.uri}; extract {other.uri} under"
    with pytest.raises(UserError, match=error):
        plan_index(model, [other], config)
    moved = FeatureSet.open(str(shutil.copytree(first.uri, tmp_path / "moved")))
    assert plan_index(model, [moved], config).is_published()
    edited = {key: {"meta": {"captions": ["edited"]}} for key in ("p0", "p4", "p5")}  # one of each split
    again = write_set(tmp_path / "again", manifest(tmp_path / "a", 12), edited)
    assert not plan_index(model, [again], config).is_published()
