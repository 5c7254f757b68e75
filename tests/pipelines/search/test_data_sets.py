"""Two indexes are of the same data sets if they have features or photos in common; equal names do not decide."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.datasets.manifest import Manifest
from pipelines.models.load import LoadedModel
from pipelines.search.data_sets import has_same_data_sets
from pipelines.search.index_build import IndexBuild
from pipelines.search.index_format import IndexDocument
from tests.support.feature_sets import manifest, write_set
from tests.support.indexes import SMALL, build_here


def of_features(document: IndexDocument, **fields: str) -> IndexDocument:
    """Returns a document with other fields of its features."""
    return replace(document, features=tuple(replace(features, **fields) for features in document.features))


def test_features_in_common_make_data_sets_the_same(built: IndexBuild):
    def same(other: IndexDocument) -> bool:
        return has_same_data_sets(built.store, built.document, built.store, other)

    assert same(replace(built.document, galleries={}))
    assert same(of_features(built.document, uri="s3://moved/set@0123456789ab", photo_root="s3://moved/photos"))
    assert not same(of_features(built.document, dataset="other"))


@pytest.mark.parametrize(("root", "prefix", "expected"), [("", "", True), ("", "other", False), ("copy", "", False)])
def test_photos_in_common_make_data_sets_the_same(
    built: IndexBuild, indexed_model: LoadedModel, tmp_path: Path, root: str, prefix: str, expected: bool
):
    photos = [replace(photo, source=prefix + photo.source) for photo in manifest(tmp_path, 12).photos()]
    photo_root = root or built.document.features[0].photo_root
    other = write_set(tmp_path, Manifest.build("tiny", photo_root, photos))
    build = build_here(indexed_model, [other], tmp_path / "indexes", replace(SMALL, photos_per_partition=2))
    assert not built.document.receipts().keys() & build.document.receipts().keys()
    assert has_same_data_sets(built.store, built.document, build.store, build.document) is expected
