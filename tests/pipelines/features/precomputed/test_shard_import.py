"""Importing shards: built once, several at a time, in order, and resumed where a shard is complete."""

from pathlib import Path

import pytest

from infra.errors import UserError
from pipelines.datasets.manifest import Manifest
from pipelines.features.feature_set import FeatureSet
from pipelines.features.index import DetectorDescription
from pipelines.features.layout import CARD, INDEX, QUARANTINE, SIZES
from pipelines.features.precomputed.shard_import import Imported, ShardContent, ShardImport, describe_source
from pipelines.features.receipt import Rejection
from pipelines.features.shard_plan import PlannedShard, plan_shards
from tests.support.feature_sets import BROKEN, FEATURE_DIM, REGIONS, manifest, sample
from tests.support.precomputed import contents


@pytest.fixture
def photos(tmp_path: Path) -> Manifest:
    return manifest(tmp_path, 30)


def content(shard: PlannedShard) -> ShardContent:
    samples = [sample(photo) for photo in shard.photos if photo.key != BROKEN]
    return samples, [Rejection(p.key, p.source, "no row", p.version_token) for p in shard.photos if p.key == BROKEN]


def run(photos: Manifest, root: Path, build=content, seen: list[int] | None = None) -> Imported:
    counted: list[int] = [] if seen is None else seen
    with ShardImport(photos, "made-up-0123", str(root), 2, counted.append) as work:
        for shard in plan_shards(photos, 2):
            work.add(shard, lambda shard=shard: build(shard))
        return work.finish(lambda least, most: describe(least, most), ["a note"])


def describe(least: int, most: int) -> DetectorDescription:
    assert least == most == 128 + 2 * REGIONS * FEATURE_DIM
    return describe_source("made-up", FEATURE_DIM, (REGIONS, REGIONS))


def test_every_photo_is_imported_and_counted(photos: Manifest, tmp_path: Path):
    seen: list[int] = []
    imported = run(photos, tmp_path / "out", seen=seen)
    features = FeatureSet.open(imported.feature_set.uri)
    assert (imported.shards_written, imported.shards_reused, imported.notes) == (16, 0, ["a note"])
    assert sum(seen) == 30
    assert sum(len(features.split(name)) for name in ("train", "val", "test")) == 29
    assert [row.key for row in features.rejected] == [BROKEN]
    assert features.index.detector == DetectorDescription("made-up", {}, FEATURE_DIM, (3, 3), {}, {})
    names = [(shard.split, shard.number) for shard in features.index.shards]
    assert names == [
        *(("train", n) for n in range(10)),
        *(("val", n) for n in range(3)),
        *(("test", n) for n in range(3)),
    ]


def test_complete_shards_are_not_built_again(photos: Manifest, tmp_path: Path):
    first = run(photos, tmp_path / "out").feature_set
    before = contents(first)
    for name in ("index.json", f"{first.index.shards[2].name}.receipt.json", f"{first.index.shards[5].name}.tar"):
        first.store.delete(name)
    first.store.replace(f"{first.index.shards[7].name}.receipt.json", b"{")
    built: list[int] = []

    def counted(shard: PlannedShard) -> ShardContent:
        built.append(shard.number)
        return content(shard)

    again = run(photos, tmp_path / "out", counted)
    assert (sorted(built), again.shards_written, again.shards_reused) == ([2, 5, 7], 2, 14)
    assert contents(again.feature_set) == before


def test_a_finished_import_is_found_without_building(photos: Manifest, tmp_path: Path):
    def find(manifest_: Manifest, seen: list[int]) -> Imported | None:
        with ShardImport(manifest_, "made-up-0123", str(tmp_path / "out"), 2, seen.append) as work:
            return work.finished()

    assert find(photos, []) is None
    first = run(photos, tmp_path / "out").feature_set
    seen: list[int] = []
    found = find(photos, seen)
    assert found is not None
    assert (found.feature_set.index, found.shards_written, found.shards_reused, seen) == (first.index, 0, 16, [30])
    assert find(manifest(tmp_path, 30, said="edited"), []) is None
    first.store.delete(f"{first.index.shards[0].name}.tar")
    assert find(photos, []) is None


def test_an_import_that_was_overtaken_publishes_nothing(photos: Manifest, tmp_path: Path):
    edited = manifest(tmp_path, 30, said="edited")
    with ShardImport(edited, "made-up-0123", str(tmp_path / "out"), 2, lambda _: None) as stalled:
        other = run(photos, tmp_path / "out").feature_set
        published = {name: other.store.read(name) for name in (INDEX, SIZES, QUARANTINE, CARD)}
        for shard in plan_shards(edited, 2):
            stalled.add(shard, lambda shard=shard: content(shard))
        with pytest.raises(UserError, match=r"/index.json: another job has replaced it since this one began"):
            stalled.finish(describe, [])
    assert {name: other.store.read(name) for name in published} == published


def test_an_error_of_a_shard_ends_the_import(photos: Manifest, tmp_path: Path):
    def fails(shard: PlannedShard) -> ShardContent:
        if (shard.split, shard.number) == ("train", 1):
            raise UserError("row 3 is corrupt")
        return content(shard)

    with pytest.raises(UserError, match="row 3 is corrupt"):
        run(photos, tmp_path / "out", fails)
    (folder,) = (tmp_path / "out").iterdir()
    assert not (folder / "index.json").exists()
    assert run(photos, tmp_path / "out").shards_reused > 0


def test_an_import_of_rejections_alone_is_refused(photos: Manifest, tmp_path: Path):
    def rejects(shard: PlannedShard) -> ShardContent:
        return [], [Rejection(photo.key, photo.source, "no row") for photo in shard.photos]

    with pytest.raises(UserError, match="30 of 30 photos are rejected, all of them: 30 x 'no row'"):
        run(photos, tmp_path / "out", rejects)


def test_items_are_mapped_in_order(photos: Manifest, tmp_path: Path):
    with ShardImport(photos, "made-up-0123", str(tmp_path / "out"), 2, lambda _: None) as work:
        assert list(work.map(lambda n: n * n, range(50))) == [n * n for n in range(50)]
