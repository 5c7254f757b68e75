"""What a service starts for a gallery: the index that is wanted, with the settings of its processes."""

from dataclasses import replace
from pathlib import Path

from infra.tracking import TrackingConfig
from pipelines.service.config import ServiceConfig
from pipelines.service.deployments import wanted_with_settings
from tests.support.feature_sets import manifest, write_set
from tests.support.indexes import build_here, loaded


def test_settings_belong_to_what_is_wanted(tmp_path: Path):
    features = write_set(tmp_path, manifest(tmp_path, 12))
    index = build_here(loaded(tmp_path / "model", features), [features], tmp_path / "indexes")
    config, tracking = ServiceConfig(), TrackingConfig(uri="http://mlflow:5000")
    found = wanted_with_settings(index.store.uri, None, config, tracking).generation
    assert (found.index, found.model) == (index.uri, index.document.model.uri)
    same = wanted_with_settings(index.store.uri, None, replace(config, max_k=5), tracking).generation
    assert same == found
    for changed, registry in ((replace(config, num_shares=2), tracking), (config, TrackingConfig(uri="http://m:1"))):
        other = wanted_with_settings(index.store.uri, None, changed, registry).generation
        assert other == replace(found, settings=other.settings)
        assert other.identity != found.identity
