"""Shards of several parts: the bytes of shards that are written at once, resumed from parts, and nothing left over.

`pipelines.extraction.cut` makes the parts.
"""

import functools
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from infra.errors import UserError
from infra.storage.folder import FolderStore
from pipelines.datasets.locate_photos import locate_photos
from pipelines.datasets.manifest import Manifest
from pipelines.extraction.join import join_parts
from pipelines.features.feature_set import FeatureSet
from pipelines.features.layout import receipt_name, tar_name
from pipelines.features.npy import load_npy
from pipelines.features.orphans import find_orphans
from pipelines.features.shard_plan import digest_of, plan_parts, plan_shards
from pipelines.features.shard_reader import StoredShards, read_sample_member
from pipelines.features.shards import Sample, commit_shard
from pipelines.features.verify import verify
from tests.support import extractions
from tests.support.extractions import TINY, contents, manifest_of, save, tars, write_photos

pytestmark = pytest.mark.usefixtures("ray_session")

run = functools.partial(extractions.run, detector=TINY, photos_per_shard=4)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    folder = write_photos(tmp_path_factory.mktemp("module") / "photos")
    for name in ("cat", "page", "camera"):
        save(name, folder / f"{name}.jpg")
    return manifest_of(folder, more=dict.fromkeys(("cat", "page", "camera"), "train"))


@pytest.fixture(scope="module")
def extracted(ray_session: None, tmp_path_factory: pytest.TempPathFactory, manifest: Manifest) -> FeatureSet:
    """Shards that are written at once, of up to four photos."""
    return run(manifest, tmp_path_factory.mktemp("extracted"))[0].feature_set


@pytest.mark.parametrize("photos_per_part", [1, pytest.param(3, marks=pytest.mark.long)])
def test_joined_parts_are_the_shards_written_at_once(
    tmp_path: Path, manifest: Manifest, extracted: FeatureSet, photos_per_part: int
):
    joined, counted = run(manifest, tmp_path, photos_per_part=photos_per_part)
    assert contents(joined.feature_set.uri) == contents(extracted.uri)
    assert (joined.photos_detected, sum(counted)) == (7, 9)
    assert verify(joined.feature_set.uri, lambda done, total: None).errors == ()


@pytest.fixture
def unfinished(tmp_path: Path, extracted: FeatureSet) -> FolderStore:
    """The feature set of a job that was killed before it wrote the first shard, of four photos."""
    store = FolderStore(tmp_path / "features" / Path(extracted.uri).name)
    shutil.copytree(extracted.uri, store.root)
    for name in ("index.json", tar_name(extracted.index.shards[0].name), receipt_name(extracted.index.shards[0].name)):
        store.delete(name)
    return store


def write_parts(store: FolderStore, extracted: FeatureSet, manifest: Manifest, count: int) -> list[str]:
    """Writes parts of one photo each of the first shard, as a job does, and returns their names."""
    shard, receipt = next(plan_shards(manifest, 4)), extracted.receipts[0]
    stored = StoredShards(extracted.store, {tar_name(receipt.shard): receipt.sha256})
    parts = plan_parts(shard.name(), shard.photos, 1)[:count]
    for part, photo in zip(parts, receipt.written, strict=False):
        regions, boxes, meta = (
            bytes(read_sample_member(stored, tar_name(receipt.shard), photo.key, number, extent))
            for number, extent in enumerate(photo.offsets)
        )
        sample = Sample(photo.key, load_npy(regions), load_npy(boxes), json.loads(meta), photo.version_token)
        commit_shard(store, part.name, [sample], [], digest_of(part.photos))
    return [part.name for part in parts]


@pytest.mark.parametrize("count", [1, pytest.param(3, marks=pytest.mark.long), 4])
def test_a_rerun_continues_with_the_parts(
    tmp_path: Path, manifest: Manifest, extracted: FeatureSet, unfinished: FolderStore, count: int
):
    parts = write_parts(unfinished, extracted, manifest, count)
    unfinished.delete(tar_name(parts[0]) if count == 3 else "nothing")  # a part whose tar was lost does not count
    again, _ = run(manifest, tmp_path, photos_per_part=1)
    assert (len(again.written), again.photos_detected) == (1, {1: 3, 3: 2, 4: 0}[count])
    assert contents(unfinished.root) == contents(extracted.uri)


def test_other_parts_serve_as_a_source_of_regions(
    tmp_path: Path, manifest: Manifest, extracted: FeatureSet, unfinished: FolderStore
):
    """The number of photos in a part has changed."""
    write_parts(unfinished, extracted, manifest, 3)
    again, _ = run(manifest, tmp_path, photos_per_part=2)
    assert again.photos_detected == 1
    assert contents(unfinished.root) == contents(extracted.uri)


def test_parts_of_a_complete_shard_are_left_over(tmp_path: Path, manifest: Manifest, extracted: FeatureSet):
    """The job was killed while it deleted them. Those of an unfinished shard are finished work."""
    store = FolderStore(tmp_path / "features" / Path(extracted.uri).name)
    shutil.copytree(extracted.uri, store.root)
    parts = write_parts(store, extracted, manifest, 2)
    store.delete(receipt_name(parts[0]))
    left_over = [receipt_name(parts[1]), *map(tar_name, parts)]
    orphans = find_orphans(store, earlier_snapshots=False)
    assert ([item.name for item in orphans.items], orphans.unfinished) == (left_over, frozenset())
    again, _ = run(manifest, tmp_path, photos_per_part=1)
    assert (again.written, contents(store.root)) == ((), contents(extracted.uri))


def test_parts_of_an_unfinished_shard_are_kept(manifest: Manifest, extracted: FeatureSet, unfinished: FolderStore):
    parts = write_parts(unfinished, extracted, manifest, 2)
    unfinished.put_if_absent("index.json", extracted.index.to_json())
    orphans = find_orphans(unfinished, earlier_snapshots=False)
    assert orphans.unfinished == {name for part in parts for name in (tar_name(part), receipt_name(part))}


@pytest.mark.long  # test_reconcile.py has one, too
def test_edited_captions_rewrite_their_shard_without_detection(
    tmp_path: Path, manifest: Manifest, extracted: FeatureSet
):
    shutil.copytree(extracted.uri, tmp_path / "features" / Path(extracted.uri).name)
    rows = [replace(photo, captions=("new",)) if photo.key == "coffee" else photo for photo in manifest.photos()]
    edited = Manifest.build("tiny", manifest.root, rows)
    changed, _ = run(edited, tmp_path, photos_per_part=1)
    assert (len(changed.written), changed.shards_reused, changed.photos_detected) == (1, 3, 0)
    fresh, _ = run(edited, tmp_path / "fresh")
    assert tars(changed) == tars(fresh)


@pytest.mark.long  # test_reconcile.py has one, too
def test_a_replaced_photo_is_detected_again_alone(tmp_path: Path, manifest: Manifest, extracted: FeatureSet):
    shutil.copytree(extracted.uri, tmp_path / "features" / Path(extracted.uri).name)
    photos = shutil.copytree(manifest.root, tmp_path / "photos")
    save("cat", photos / "coffee.jpg")
    replaced = locate_photos("tiny", photos, [replace(photo, version_token="") for photo in manifest.photos()])
    changed, _ = run(replaced, tmp_path, photos_per_part=1)
    assert (len(changed.written), changed.shards_reused, changed.photos_detected) == (1, 3, 1)
    fresh, _ = run(replaced, tmp_path / "fresh")
    assert list(tars(changed).values()) == list(tars(fresh).values())


def test_a_shard_that_another_job_has_joined_is_taken(
    manifest: Manifest, extracted: FeatureSet, unfinished: FolderStore
):
    shard, parts = next(plan_shards(manifest, 4)), write_parts(unfinished, extracted, manifest, 4)
    first = join_parts(unfinished, shard.name(), shard.plan_digest, parts)
    assert not any(".part-" in name for name in unfinished.objects())
    write_parts(unfinished, extracted, manifest, 2)
    assert join_parts(unfinished, shard.name(), shard.plan_digest, parts) == first
    assert not any(".part-" in name for name in unfinished.objects())
    with pytest.raises(UserError, match="another job has deleted parts of it; run again"):
        join_parts(unfinished, shard.name(), "another plan", parts)


@pytest.mark.long
def test_a_feature_set_from_before_shard_mb_is_continued(
    tmp_path: Path, manifest: Manifest, capsys: pytest.CaptureFixture[str]
):
    """Its tars have 32 photos. The option that is printed extracts it again."""
    earlier, _ = run(manifest, tmp_path, photos_per_shard=32)
    again, _ = run(manifest, tmp_path, photos_per_shard=0)
    assert (again.written, again.feature_set.uri) == ((), earlier.feature_set.uri)
    said = re.search(r"continued so; --extract\.photos_per_shard (\d+) extracts it again", capsys.readouterr().err)
    assert said
    new, _ = run(manifest, tmp_path, photos_per_shard=int(said[1]))
    assert new.feature_set.uri != earlier.feature_set.uri
    assert run(manifest, tmp_path, photos_per_shard=0)[0].feature_set.uri == new.feature_set.uri
