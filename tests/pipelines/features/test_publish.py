"""Publishing a feature set: every photo accounted for, and nothing written twice."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from infra.storage.replacement import Replacement
from pipelines.features.account import Account
from pipelines.features.feature_set import FeatureSet
from pipelines.features.layout import INDEX
from pipelines.features.publish import publish
from tests.support.feature_sets import DETECTOR, manifest, write_set


@pytest.fixture
def features(tmp_path: Path) -> FeatureSet:
    return write_set(tmp_path, manifest(tmp_path))


def test_publishing_again_writes_nothing(features: FeatureSet, tmp_path: Path):
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in Path(features.uri).iterdir()}
    accounts = [Account.of(receipt) for receipt in features.receipts]
    again = publish(Replacement.of(features.store, INDEX), manifest(tmp_path), "made-up-0123", DETECTOR, accounts)
    assert again == features
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in Path(features.uri).iterdir()} == before


def test_sizes_are_the_samples_of_every_tar(features: FeatureSet):
    sizes = json.loads((Path(features.uri) / "sizes.json").read_text())
    assert sizes == {f"{receipt.shard}.tar": len(receipt.written) for receipt in features.receipts}


@pytest.mark.parametrize("lost", [True, False])
def test_a_lost_or_duplicated_photo_is_an_error(features: FeatureSet, tmp_path: Path, lost: bool):
    first, *others = features.receipts
    written = first.written[1:] if lost else (*first.written, first.written[0])
    count = 4 if lost else 6
    accounts = [Account.of(receipt) for receipt in (replace(first, written=written), *others)]
    with pytest.raises(RuntimeError, match=f"planned 6 photos, written {count}, rejected 1"):
        publish(Replacement.of(features.store, INDEX), manifest(tmp_path), "f", DETECTOR, accounts)
