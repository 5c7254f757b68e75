"""Captions of photos in the order of their keys, from a manifest that has others too."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from infra.errors import CorruptDataError
from infra.storage.open import open_store
from pipelines.datasets.manifest import Manifest
from pipelines.features.captions import captions_of
from pipelines.features.manifests import write_manifest
from pipelines.features.texts import Texts
from tests.support import feature_sets


def test_captions_follow_the_order_of_keys(tmp_path: Path):
    counts = (2, 0, 1, 0, 3, 1)
    photos = [
        replace(photo, captions=tuple(f"{photo.key} caption {n}" for n in range(count)))
        for photo, count in zip(feature_sets.manifest(tmp_path).photos(), counts, strict=True)
    ]
    manifest, store = Manifest.build("tiny", str(tmp_path), photos), open_store(str(tmp_path / "set"))
    write_manifest(store, manifest)
    order = [4, 1, 5, 0]
    found = captions_of(store, manifest.digest(), Texts(pa.array([photos[n].key for n in order], pa.large_string())))
    expected = [photos[n].captions for n in order]
    assert found == expected
    assert list(found) == [found[row] for row in range(4)] == expected
    assert found.counts.tolist() == [3, 0, 1, 2]
    assert found.texts == [caption for captions in expected for caption in captions]
    assert found[1:3] == expected[1:3]
    with pytest.raises(CorruptDataError, match=r"manifest-\w+\.parquet does not have photo p9; delete it and extract"):
        captions_of(store, manifest.digest(), Texts(pa.array(["p1", "p9"], pa.large_string())))
