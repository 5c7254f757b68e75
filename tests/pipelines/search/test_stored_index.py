"""A search index that version 0.2 wrote stays readable, and its format is unchanged."""

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines.features.feature_set import FeatureSet
from pipelines.search.index import SearchIndex
from pipelines.search.index_verify import verify_index
from shan_model.scoring import score_matrix
from tests.support import stored_feature_set
from tests.support.stored_index import FIXTURE, stored_model, write_index

INDEX = FIXTURE / "index"
SPLITS = ("train", "val", "test")


def form(name: str, data: bytes) -> Any:
    """Returns the structure of an object without its values, which depend on the CPU in the last digits."""
    if name.endswith(".npy"):
        return data[: data.index(b"\n")]  # version, type and shape
    if name.endswith(".arrow"):
        return pa.ipc.open_file(data).read_all()
    return structure(json.loads(data))


def structure(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: structure(found) for key, found in value.items()}
    return [structure(found) for found in value] if isinstance(value, list) else type(value)


def objects(folder: Path) -> dict[str, Any]:
    """Returns the form of every object, with names that leave out digests of values."""
    forms = {path.name: form(path.name, path.read_bytes()) for path in folder.iterdir()}
    return {re.sub(r"(?<=[.-])[0-9a-f]{12}(?=\.)", "<digest>", name): found for name, found in forms.items()}


def test_it_is_intact():
    found = verify_index(str(INDEX), lambda done, total: None)
    assert (found.errors, found.partitions, found.items) == ((), 6, {"photos": 4, "captions": 8})


@pytest.mark.parametrize("query", ["caption 3", "Übung"])
def test_photos_are_found_with_their_exact_scores(query: str):
    model, features = stored_model(), FeatureSet.open(str(stored_feature_set.FIXTURE))
    splits = [features.split(name) for name in SPLITS]
    expected = {
        key: (float(score), captions)
        for split in splits
        for key, (score,), captions in zip(
            split.keys, score_matrix(model.shan, split, [query]), split.captions_of_photos, strict=True
        )
    }
    (hits,) = SearchIndex.open(str(INDEX), model).search_photos([query], k=10)
    assert {hit.key: hit.score for hit in hits} == pytest.approx({k: s for k, (s, _) in expected.items()}, abs=2e-3)
    assert {hit.key: hit.captions for hit in hits} == {key: captions for key, (_, captions) in expected.items()}
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_captions_are_found():
    features = FeatureSet.open(str(stored_feature_set.FIXTURE))
    (hits,) = SearchIndex.open(str(INDEX), stored_model()).search_captions([features.split("val")[[0]][0]], k=10)
    captions = {caption for name in SPLITS for caption in features.split(name).captions}
    assert {caption for hit in hits for caption in hit.captions} == captions


@pytest.mark.usefixtures("ray_session")
def test_format_has_not_changed_without_a_new_version(tmp_path: Path):
    """If this fails, raise the format version of search indexes."""
    write_index(stored_model(), tmp_path / "index")
    assert objects(tmp_path / "index") == objects(INDEX)
