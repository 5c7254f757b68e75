"""The work of the commands of `jobs.features`, on small feature sets."""

from pathlib import Path

import pytest

from infra.errors import UserError
from infra.storage.folder import FolderStore
from pipelines.datasets.importer import DatasetFiles
from pipelines.features.commands import clean_up, delete_listed, export_features, import_features, inspect_features
from pipelines.features.feature_set import FeatureSet
from pipelines.features.orphans import OrphanedObject
from tests.support.feature_sets import manifest, write_set
from tests.support.precomputed import Photo, karpathy_file, scan_folder

FILES = DatasetFiles(("d.json",), None, {})


@pytest.fixture
def features(tmp_path: Path) -> FeatureSet:
    return write_set(tmp_path, manifest(tmp_path))


def test_objects_to_keep_are_listed_but_not_deleted(tmp_path: Path):
    store, items = FolderStore(tmp_path), [OrphanedObject("tar", name, 1) for name in ("a", "b", "c")]
    for item in items:
        store.put_if_absent(item.name, b"1")
    assert delete_listed(store, items, {"b"}, delete=False) == "\nnothing was deleted; add --delete to delete them"
    assert list(store.objects()) == ["a", "b", "c"]
    assert delete_listed(store, items, {"b"}, delete=True) == "\n2 objects deleted"
    assert list(store.objects()) == ["b"]
    assert delete_listed(store, [], (), delete=False) == ""


def test_finished_work_is_deleted_only_on_request(tmp_path: Path, features: FeatureSet):
    """Without an index, complete shards are those of an unfinished extraction; here of captions that were edited."""
    before = set(features.store.objects())
    edited = write_set(tmp_path, manifest(tmp_path, said="edited"))
    for name in ("index.json", f"snapshot-{edited.index.feature_set[:12]}.json"):
        edited.store.delete(name)
    edited.store.put_if_absent("index.json", features.index.to_json())
    unfinished = {name for name in edited.store.objects() if name.endswith((".tar", ".receipt.json"))} - before
    assert len(unfinished) == 8
    assert "1 objects deleted" in clean_up(features.uri, delete=True, unfinished=False, earlier_snapshots=False)
    assert unfinished <= set(features.store.objects())
    assert "8 objects deleted" in clean_up(features.uri, delete=True, unfinished=True, earlier_snapshots=False)
    assert not unfinished & set(features.store.objects())


def test_an_inspection_writes_its_page(features: FeatureSet, tmp_path: Path):
    page = tmp_path / "pages" / "x.html"
    text = inspect_features(features.uri, page)
    assert text.splitlines()[0] == features.pinned_uri
    assert text.splitlines()[-1] == f"page: {page}"
    assert page.read_text().startswith("<!doctype html>")


def test_an_unwritable_page_is_found_before_anything_is_read(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--page"):
        inspect_features(str(tmp_path / "nowhere"), tmp_path / "file" / "page.html")


@pytest.mark.parametrize(
    ("feature_format", "dataset", "dataset_name", "photos", "message"),
    [
        ("scan", FILES, None, 8, "--dataset has no effect with --feature-format scan"),
        ("tsv", None, "d", 8, "--dataset-name has no effect with --feature-format tsv"),
        ("tsv", None, None, 0, "--photos-per-shard is 0; it must be at least 1"),
    ],
)
def test_options_without_effect_are_refused_first(
    tmp_path: Path, feature_format, dataset, dataset_name, photos, message: str
):
    with pytest.raises(UserError, match=f"^{message}"):
        import_features(feature_format, tmp_path / "nowhere", str(tmp_path / "out"), dataset, dataset_name, photos)
    assert list(tmp_path.iterdir()) == []


def test_both_formats_are_imported_and_exported(tmp_path: Path):
    source = scan_folder(tmp_path / "in", {"train": 3, "test": 2})
    uri, accounting = import_features("scan", source, str(tmp_path / "out"), None, "named", 2).splitlines()
    assert accounting == "  5 photos planned = 5 written + 0 rejected, in 3 shards (3 written now, 0 reused)"
    assert FeatureSet.open(uri).dataset == "named"
    back = tmp_path / "back"
    assert export_features(uri, back, "scan").splitlines()[0] == f"{back}: 3 train, 2 test photos in SCAN's format"
    assert (back / "train_ims.npy").read_bytes() == (source / "train_ims.npy").read_bytes()


def test_notes_of_an_import_follow_its_accounting(tmp_path: Path):
    dataset = karpathy_file(tmp_path / "d.json", {"1.jpg": "train"})
    (tmp_path / "a.tsv").write_text(Photo("1").six() + Photo("9").six())
    files = DatasetFiles((str(dataset),), None, {})
    lines = import_features("tsv", tmp_path / "a.tsv", str(tmp_path / "out"), files, None, 8).splitlines()
    assert lines[1:] == [
        "  1 photos planned = 1 written + 0 rejected, in 1 shards (1 written now, 0 reused)",
        "  1 of 2 rows left out: their photos are not in the data set",
    ]
    exported = export_features(lines[0], tmp_path / "back", "tsv")
    assert exported.splitlines()[0] == f"{tmp_path}/back: 1 train photos as TSV"
