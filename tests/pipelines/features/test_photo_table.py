"""Photos of shards as columns: those of the receipts, in any order."""

from dataclasses import replace

import numpy as np
import pytest

from infra.errors import CorruptDataError
from pipelines.features.feature_set import FeatureSet
from pipelines.features.layout import tar_name
from pipelines.features.photo_table import PhotoTable
from pipelines.features.stored_receipts import StoredReceipts
from tests.support import feature_sets


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> FeatureSet:
    folder = tmp_path_factory.mktemp("set")
    return feature_sets.write_set(folder, feature_sets.manifest(folder, 24))


def rows(table: PhotoTable) -> list[tuple[str, str, str, list[list[int]]]]:
    tars = [tar_name(table.shards[shard].name) for shard in table.shard_of]
    return list(zip(tars, table.keys, table.sources, table.offsets.tolist(), strict=True))


def test_a_table_has_the_photos_of_the_receipts(features: FeatureSet):
    table = PhotoTable.read(features.index.shards, features.receipts)
    expected = [
        (tar_name(receipt.shard), photo.key, photo.source, [list(extent) for extent in photo.offsets])
        for receipt in features.receipts
        for photo in receipt.written
    ]
    assert rows(table) == expected
    assert len(table) == len(expected) == 23


def test_taken_photos_have_only_their_shards(features: FeatureSet):
    table = PhotoTable.read(features.index.shards, features.receipts)
    wanted = np.array([20, 3, 4])
    assert rows(table.take(wanted)) == [rows(table)[row] for row in wanted]
    assert {shard.name for shard in table.take(wanted).shards} == {table.shards[table.shard_of[r]].name for r in wanted}
    assert table.rows_of([table.keys[row] for row in wanted]).tolist() == wanted.tolist()


def test_an_index_with_a_forged_count_is_corrupt(features: FeatureSet):
    """Nothing is allocated for a count that the receipts do not confirm."""
    first, *others = features.index.shards
    forged = (replace(first, written=1 << 60), *others)
    with pytest.raises(CorruptDataError, match="the index or a receipt is corrupt"):
        PhotoTable.read(forged, StoredReceipts(features.store, forged))
