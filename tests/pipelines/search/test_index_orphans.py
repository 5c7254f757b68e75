"""Orphaned objects of an index: earlier snapshots, unfinished builds, interrupted writes, and nothing else."""

from pathlib import Path

import pytest

from infra.errors import UserError
from infra.storage.folder import FolderStore
from pipelines.features.orphans import delete_orphans
from pipelines.search.index import SearchIndex
from pipelines.search.index_orphans import find_index_orphans
from pipelines.search.index_verify import verify_index
from pipelines.search.partition_writer import write_partition
from tests.support.indexes import build_here, contents, loaded, tasks
from tests.support.small_models import small_set


def test_an_index_has_no_orphans_and_foreign_objects_are_counted(copy: Path):
    (copy / "notes.txt").write_text("mine")
    found = find_index_orphans(FolderStore(copy), earlier_snapshots=False)
    assert (found.items, found.unfinished, found.foreign) == ((), frozenset(), 1)


def test_what_only_earlier_snapshots_need_is_deleted_on_request(tmp_path: Path):
    features = small_set(tmp_path, 18)
    model = loaded(tmp_path / "model", features)
    first = build_here(model, [features], tmp_path / "out")
    second = build_here(model, [small_set(tmp_path, 30)], tmp_path / "out")
    assert find_index_orphans(second.store, earlier_snapshots=False).items == ()
    orphans = find_index_orphans(second.store, earlier_snapshots=True)
    assert orphans.items[0].kind == "snapshot"
    assert not orphans.unfinished
    delete_orphans(second.store, orphans.items)
    assert verify_index(second.store.uri, lambda *_: None).errors == ()
    with pytest.raises(UserError, match=r"no snapshot .* here"):
        SearchIndex.open(first.uri, model)
    fresh = build_here(model, [small_set(tmp_path, 30)], tmp_path / "fresh")
    assert contents(Path(second.store.uri)) == contents(Path(fresh.store.uri))


def test_partitions_of_an_unfinished_build_are_kept_apart(tmp_path: Path):
    features = small_set(tmp_path, 18)
    model = loaded(tmp_path / "model", features)
    build = build_here(model, [features], tmp_path / "out")
    more = small_set(tmp_path, 60)
    task = next(task for task in tasks([more]) if task.name not in {p.name for p in build.document.receipts().values()})
    write_partition(build.store, task, more.store, model.shan, "float16")
    cut = f"{task.name[:-1]}{'0' if task.name[-1] != '0' else '1'}"
    Path(build.store.uri, f"{cut}.vectors.npy").write_bytes(b"left behind")
    orphans = find_index_orphans(build.store, earlier_snapshots=False)
    assert {item.name for item in orphans.items} - orphans.unfinished == {f"{cut}.vectors.npy"}
    assert {name.partition(".")[0] for name in orphans.unfinished} == {task.name}


def test_what_is_not_an_index_has_no_orphans_to_find(copy: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"no index\.json of a search index here"):
        find_index_orphans(FolderStore(tmp_path / "nowhere"), earlier_snapshots=False)
    (copy / "index.json").write_text("{}")
    with pytest.raises(UserError, match=r"cannot be parsed .*, so orphaned objects cannot be determined; restore it"):
        find_index_orphans(FolderStore(copy), earlier_snapshots=False)
