"""Which index is served: the champion's if it exists beside the given one, else the given one."""

from dataclasses import replace
from pathlib import Path

import pytest

from infra.errors import UserError
from infra.registry import set_champions
from infra.storage.folder import FolderStore
from infra.storage.open import open_store
from infra.tracking import Tracking, TrackingConfig
from pipelines.features.layout import INDEX
from pipelines.search.index_format import IndexDocument, IndexedModel
from pipelines.service.generation import Generation
from pipelines.service.wanted import wanted
from tests.support.feature_sets import manifest, write_set
from tests.support.indexes import build_here, loaded

NAME = "m"


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> IndexDocument:
    folder = tmp_path_factory.mktemp("built")
    features = write_set(folder, manifest(folder, 12))
    return build_here(loaded(folder / "model", features), [features], folder / "indexes").document


@pytest.fixture
def registry(tracking: Tracking) -> TrackingConfig:
    """A registry with versions 1 to 3 of a model, which have no files: they are only looked up."""
    client = tracking.client()
    client.create_registered_model(NAME)
    for _ in range(3):
        client.create_model_version(NAME, "file:///nowhere")
    set_champions(tracking, NAME, [1])
    return TrackingConfig(uri=tracking.uri)


def write(
    root: Path,
    name: str,
    document: IndexDocument,
    version: int | str,
    datasets: tuple[str, ...] = ("tiny",),
    **fields: str,
) -> str:
    """Writes the document of an index, all that is read here, and returns its URI."""
    uri = f"models:/{NAME}/{version}" if isinstance(version, int) else version
    model = IndexedModel(uri, document.model.digest, document.model.fingerprint)
    features = [replace(document.features[0], dataset=dataset, **fields) for dataset in datasets]
    store = open_store(f"{root}/{name}")
    store.replace(INDEX, IndexDocument.build(model, features, document.galleries).to_json())
    return store.uri


def chosen(uri: str, version: int, document: IndexDocument) -> Generation:
    return Generation(f"{uri}@{document.index[:12]}", f"models:/{NAME}/{version}")


def test_the_index_of_the_champion_is_served(
    tmp_path: Path, document: IndexDocument, registry: TrackingConfig, tracking: Tracking
):
    one, two = write(tmp_path, "a", document, 1), write(tmp_path, "b", document, 2)
    write(tmp_path, "c", document, 2, datasets=("other",))
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "corrupt").mkdir()
    (tmp_path / "corrupt" / INDEX).write_text("{")
    found = wanted(one, None, registry)
    assert (found.generation, found.champion) == (chosen(one, 1, document), "models:/m/1")
    set_champions(tracking, NAME, [1, 2])
    found = wanted(one, None, registry)
    assert (found.generation, found.champion, found.problem) == (chosen(two, 2, document), "models:/m/2", "")


def test_an_index_of_the_same_kind_is_preferred(
    tmp_path: Path, document: IndexDocument, registry: TrackingConfig, tracking: Tracking
):
    one, both = write(tmp_path, "c", document, 1), write(tmp_path, "b", document, 2)
    photos = replace(document, galleries={"photos": document.galleries["photos"]})
    some = write(tmp_path, "a", photos, 2)
    set_champions(tracking, NAME, [1, 2])
    assert wanted(one, None, registry).generation == chosen(both, 2, document)
    Path(both, INDEX).unlink()
    assert wanted(one, None, registry).generation.index.startswith(f"{some}@")


def test_the_order_of_the_data_sets_does_not_matter(
    tmp_path: Path, document: IndexDocument, registry: TrackingConfig, tracking: Tracking
):
    one = write(tmp_path, "a", document, 1, datasets=("first", "second"))
    two = write(tmp_path, "b", document, 2, datasets=("second", "first"))
    set_champions(tracking, NAME, [1, 2])
    assert wanted(one, None, registry).generation.index.startswith(f"{two}@")


def test_an_index_that_cannot_be_read_is_not_a_missing_one(
    tmp_path: Path,
    document: IndexDocument,
    registry: TrackingConfig,
    tracking: Tracking,
    monkeypatch: pytest.MonkeyPatch,
):
    one, two = write(tmp_path, "a", document, 1), write(tmp_path, "b", document, 2)
    set_champions(tracking, NAME, [1, 2])
    read = FolderStore.read

    def refuse(store: FolderStore, name: str, *arguments: int) -> bytes:
        if (store.uri, name) == (two, INDEX):
            raise UserError("the store rejects the credentials (ExpiredToken)")
        return read(store, name, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(FolderStore, "read", refuse)
        with pytest.raises(UserError, match="ExpiredToken"):
            wanted(one, None, registry)
    assert wanted(one, None, registry).generation.index.startswith(f"{two}@")


def test_a_champion_without_an_index_leaves_the_given_one(
    tmp_path: Path, document: IndexDocument, registry: TrackingConfig, tracking: Tracking
):
    one = write(tmp_path, "a", document, 1)
    write(tmp_path, "c", document, 3, datasets=("other",))
    other = replace(document, galleries={})  # of another feature set and other photos
    write(tmp_path, "d", other, 3, uri="/other/tiny@0123456789ab", photo_root="/other/photos")
    set_champions(tracking, NAME, [1, 3])
    found = wanted(one, None, registry)
    assert (found.generation, found.champion) == (chosen(one, 1, document), "models:/m/3")
    assert found.problem.startswith(
        f"the champion models:/m/3 has no index beside {one} with the same photos; build it with `"
    )
    features = document.features[0].uri.rpartition("@")[0]
    assert f"--model models:/m/3 --features {features} --index.output {tmp_path}`" in found.problem


def test_a_pinned_version_is_served(tmp_path: Path, document: IndexDocument, registry: TrackingConfig):
    one, two = write(tmp_path, "a", document, 1), write(tmp_path, "b", document, 2)
    found = wanted(one, 2, registry)
    assert (found.generation, found.champion) == (chosen(two, 2, document), "")
    with pytest.raises(
        UserError, match=r"--pin 3: models:/m/3 has no index beside \S+ with the same photos; build it with"
    ):
        wanted(one, 3, registry)
    with pytest.raises(UserError, match=r"^--pin is 0; it must be a version, and the first one is 1$"):
        wanted(one, 0, registry)


def test_a_model_without_a_champion_leaves_the_given_index(
    tmp_path: Path, document: IndexDocument, registry: TrackingConfig, tracking: Tracking
):
    tracking.client().delete_registered_model_alias(NAME, "champion")
    assert wanted(write(tmp_path, "a", document, 1), None, registry).champion == ""


def test_a_checkpoint_and_a_snapshot_need_no_registry(tmp_path: Path, document: IndexDocument):
    nowhere = TrackingConfig(uri=f"sqlite:///{tmp_path}/nothing.db")
    folder = write(tmp_path, "a", document, "/runs/m/epoch-007")
    assert wanted(folder, None, nowhere).generation.model == "/runs/m/epoch-007"
    with pytest.raises(UserError, match="--pin has no effect"):
        wanted(folder, 2, nowhere)
    registered = write(tmp_path, "b", document, 1)
    snapshot = f"snapshot-{document.index[:12]}.json"
    (tmp_path / "b" / snapshot).write_bytes((tmp_path / "b" / INDEX).read_bytes())
    uri = f"{registered}@{document.index[:12]}"
    assert wanted(uri, None, nowhere).generation == Generation(uri, "models:/m/1")
    with pytest.raises(UserError, match="no finished search index here"):
        wanted(str(tmp_path / "none"), None, nowhere)
