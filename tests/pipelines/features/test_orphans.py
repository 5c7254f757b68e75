"""Orphaned objects: nothing that an index needs is among them, and an interrupted deletion leaves a valid state."""

from collections.abc import Callable
from pathlib import Path

import pytest

from infra.errors import UserError
from infra.storage.folder import FolderStore
from pipelines.features.feature_set import FeatureSet
from pipelines.features.manifests import write_manifest
from pipelines.features.orphans import delete_orphans, find_orphans
from pipelines.features.shard_plan import PlannedShard
from pipelines.features.verify import verify
from tests.support.feature_sets import manifest, shard_of, write_set, write_shard


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def is_intact(uri: str) -> bool:
    return not verify(uri, lambda done, total: None).errors


@pytest.fixture
def first(tmp_path: Path) -> FeatureSet:
    return write_set(tmp_path, manifest(tmp_path))


@pytest.fixture
def second(tmp_path: Path, first: FeatureSet) -> FeatureSet:
    """The same data set with one caption of every photo edited, so that all shards are new."""
    return write_set(tmp_path, manifest(tmp_path, said="edited"))


@pytest.fixture
def store(first: FeatureSet) -> FolderStore:
    return FolderStore(Path(first.uri))


def unfinished_shard(store: FolderStore, tmp_path: Path) -> str:
    """A complete shard and the manifest of an extraction that did not reach its index."""
    grown = manifest(tmp_path, 8)
    write_manifest(store, grown)
    shard = PlannedShard("train", 7, tuple(grown.photos())[6:])
    write_shard(store, shard, {})
    return shard.name()


def test_a_finished_feature_set_has_no_orphans(store: FolderStore):
    orphans = find_orphans(store, earlier_snapshots=False)
    assert (orphans.items, orphans.complete_shards, orphans.foreign) == ((), 0, 0)
    assert find_orphans(store, earlier_snapshots=True).items == ()


def test_objects_of_snapshots_are_not_orphans(store: FolderStore, second: FeatureSet):
    assert find_orphans(store, earlier_snapshots=False).items == ()


def test_with_earlier_snapshots_only_the_current_index_counts(
    store: FolderStore, first: FeatureSet, second: FeatureSet
):
    orphans = find_orphans(store, earlier_snapshots=True)
    assert [item.kind for item in orphans.items] == ["snapshot", *["receipt"] * 4, *["tar"] * 4, "manifest"]
    assert orphans.complete_shards == 4
    assert sum(item.size or 0 for item in orphans.items) > 20_000
    delete_orphans(store, orphans.items)
    assert is_intact(second.uri)
    assert find_orphans(store, earlier_snapshots=True).items == ()
    with pytest.raises(UserError, match=r"no snapshot .* here"):
        FeatureSet.open(first.pinned_uri)


def test_unfinished_extractions_are_listed_and_counted(store: FolderStore, tmp_path: Path):
    shard = unfinished_shard(store, tmp_path)
    (store.root / ".index.json.0000dead").write_bytes(b"half")
    (store.root / "features-val-000009-0123abcd.tar").write_bytes(b"tar without a receipt")
    before = names(store.root)
    orphans = find_orphans(store, earlier_snapshots=False)
    assert names(store.root) == before
    found = {item.name for item in orphans.items}
    left = {f"{shard}.tar", f"{shard}.receipt.json", ".index.json.0000dead", "features-val-000009-0123abcd.tar"}
    assert left <= found
    assert {item.kind for item in orphans.items} == {"receipt", "tar", "manifest", "incomplete"}
    assert (len(found), orphans.complete_shards) == (5, 1)
    delete_orphans(store, orphans.items)
    assert names(store.root) == before - found
    assert is_intact(store.uri)


def test_foreign_objects_stay(store: FolderStore):
    foreign = ["notes.txt", "features.tar", "features-train-1.tar", "snapshot-old.json", "manifest.parquet"]
    for name in foreign:
        store.put_if_absent(name, b"x")
    store.put_if_absent("sub/features-train-000000-01234567.tar", b"x")
    orphans = find_orphans(store, earlier_snapshots=True)
    assert (orphans.items, orphans.foreign) == ((), 6)


@pytest.mark.parametrize("earlier_snapshots", [False, True])
def test_orphans_need_an_index(store: FolderStore, first: FeatureSet, earlier_snapshots: bool):
    (store.root / "index.json").unlink()
    if not earlier_snapshots:
        (store.root / f"snapshot-{first.index.feature_set[:12]}.json").unlink()
    with pytest.raises(UserError, match=r"no index\.json here, so orphaned objects cannot be determined; run `python"):
        find_orphans(store, earlier_snapshots)


@pytest.mark.parametrize("text", ["{", "{}", '{"format": "shan-features/3"}'])
def test_a_corrupt_snapshot_is_an_error(store: FolderStore, first: FeatureSet, text: str):
    name = f"snapshot-{first.index.feature_set[:12]}.json"
    (store.root / name).write_text(text)
    with pytest.raises(
        UserError, match=rf"{name} cannot be parsed \(.*\), so orphaned objects cannot be determined; restore it"
    ):
        find_orphans(store, earlier_snapshots=False)


def test_an_interrupted_deletion_leaves_a_valid_state(
    store: FolderStore, second: FeatureSet, monkeypatch: pytest.MonkeyPatch
):
    """After every deletion each index refers only to existing objects, and each receipt has its tar."""
    delete: Callable[[FolderStore, str], None] = FolderStore.delete
    seen = []

    def watched(self: FolderStore, name: str) -> None:
        delete(self, name)
        seen.append(name)
        left = names(self.root)
        for path in [*self.root.glob("index.json"), *self.root.glob("snapshot-*.json")]:
            index = path.read_text()
            assert not any(gone.split(".")[0] in index for gone in seen if gone.startswith("features")), path.name
        assert all(name.replace(".receipt.json", ".tar") in left for name in left if ".receipt." in name)

    monkeypatch.setattr(FolderStore, "delete", watched)
    orphans = find_orphans(store, earlier_snapshots=True)
    delete_orphans(store, orphans.items)
    assert len(seen) == len(orphans.items) == 10
    assert shard_of(second, "p0") not in " ".join(seen)
