"""The copy of a share's partitions: complete for its own, independent of the bucket."""

from pathlib import Path

import pytest

from infra.errors import CorruptDataError
from infra.storage.base import Store
from infra.storage.folder import FolderStore
from infra.storage.open import open_store
from pipelines.search.config import IndexConfig
from pipelines.search.index import SearchIndex
from pipelines.service.local_copy import copy_partitions
from pipelines.service.share import partitions_of
from tests.support.indexes import build_here, loaded
from tests.support.servers import S3Server
from tests.support.small_models import small_set


def names(store: Store) -> set[str]:
    return {name for name, _ in store.scan()}


@pytest.mark.long
def test_only_searches_without_a_copy_need_the_bucket(ray_session: None, s3_server: S3Server, tmp_path: Path):
    features = small_set(tmp_path, 30)
    model = loaded(tmp_path / "model", features)
    config = IndexConfig(photos_per_partition=8, candidate_search="ivf", num_lists=4, num_probes=4)
    build = build_here(model, [features], tmp_path / "indexes", config)
    bucket = open_store(f"s3://{s3_server.bucket}/{tmp_path.name}")
    for name in names(build.store):
        bucket.replace(name, build.store.read(name))
    partitions = partitions_of(build.document, 0, 2)
    copy = copy_partitions(bucket, build.document, partitions, tmp_path / "copy")
    opened = SearchIndex.of(bucket, build.document, model, partitions)
    for name in names(bucket):
        bucket.delete(name)
    with pytest.raises(CorruptDataError, match=rf"^{bucket.uri}/photos-.*\.npy does not exist; run .* build the index"):
        opened.search_photos(["a photo of 7"], 5)
    with pytest.raises(CorruptDataError, match=rf"^{bucket.uri}/.* does not exist; run .* build the index again"):
        copy_partitions(bucket, build.document, partitions, tmp_path / "second")
    vectors = next(name for name in sorted(names(copy)) if name.endswith(".vectors.npy"))
    for name in names(build.store):
        bucket.replace(name, build.store.read(name))
    bucket.replace(vectors, build.store.read(vectors)[:-1] + b"?")
    with pytest.raises(CorruptDataError, match=rf"^{bucket.uri}/{vectors} does not have the sha256 in the index; run"):
        copy_partitions(bucket, build.document, partitions, tmp_path / "third")
    found = SearchIndex.of(copy, build.document, model, partitions).search_photos(["a photo of 7"], 5)
    assert found == SearchIndex.of(build.store, build.document, model, partitions).search_photos(["a photo of 7"], 5)
    others = set(partitions_of(build.document, 1, 2))
    assert others
    assert not {name.split(".")[0] for name in names(copy)} & others


def test_a_folder_is_used_where_it_is(tmp_path: Path):
    features = small_set(tmp_path, 12)
    build = build_here(loaded(tmp_path / "model", features), [features], tmp_path / "indexes")
    copy = copy_partitions(build.store, build.document, [], tmp_path / "copy")
    assert isinstance(copy, FolderStore)
    assert copy.uri == build.store.uri
    assert not (tmp_path / "copy").exists()
