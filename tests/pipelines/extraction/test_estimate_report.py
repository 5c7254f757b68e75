"""The estimate as a table, and its comparison with the extraction that followed."""

from dataclasses import asdict
from pathlib import Path

import pytest

from infra.canonical_json import canonical_json
from pipelines.extraction.estimate import Estimate, Probe
from pipelines.extraction.estimate_config import EstimateConfig
from pipelines.extraction.estimate_report import compare_with_estimate, comparison_table, estimate_table
from pipelines.extraction.reconcile import FeatureSetPlan
from pipelines.extraction.run import Extraction
from pipelines.features.account import Account
from pipelines.features.feature_set import FeatureSet
from pipelines.features.layout import ESTIMATE
from tests.support.feature_sets import manifest, write_set

PROBE = Probe(photos=48, fetch_s=0.0124, detect_s=0.25, commit_s=0.001, shard_bytes=150_000, start_s=9.6)
PLANNED = Estimate(
    shards=4, photos=10, bytes=2e9, seconds=7200, dollars=12.5, detectors=3, photos_per_s=8.25, bottleneck="cores"
)


def test_the_table_has_the_probe_and_the_cluster():
    text = estimate_table(PROBE, EstimateConfig(2, 16, 0.5, dollars_per_node_hour=1), PLANNED)
    lines = text.splitlines()
    assert lines[0] == (
        "  probe of 48 photos, one process: fetch and decode 12 ms, detect 250 ms, commit 1 ms per photo; start-up 10 s"
    )
    assert lines[1] == ("  cluster: 2 x (16 cores, 0.5 GPUs), 3 detector processes; 8.2 photos/s limited by cores")
    assert lines[-1] == "| 4 | 10 | 2 | 2 | 12.50 dollars |"


def test_a_cluster_without_a_price_has_no_cost():
    assert estimate_table(PROBE, EstimateConfig(1), PLANNED).endswith("| no price given |")


def test_the_comparison_has_the_ratio_of_each_value():
    rows = comparison_table(PLANNED, (4, 9, int(2.5e9), 3600.0)).strip().splitlines()[2:]
    assert rows == [
        "| shards written | 4 | 4 | 1.00 |",
        "| photos detected | 10 | 9 | 0.90 |",
        "| GB | 2 | 2.5 | 1.25 |",
        "| hours | 2 | 1 | 0.50 |",
    ]


@pytest.fixture
def features(tmp_path: Path) -> FeatureSet:
    return write_set(tmp_path, manifest(tmp_path))


def extraction(features: FeatureSet, count: int) -> Extraction:
    """Returns an extraction that wrote the first shards of a feature set."""
    written = tuple(map(Account.of, features.receipts[:count]))
    return Extraction(features, written, 2 * count, FeatureSetPlan((), {}, (), 6, {}), {})


def test_a_stored_estimate_is_compared_once(features: FeatureSet):
    features.store.replace(ESTIMATE, canonical_json(asdict(PLANNED)))
    text = compare_with_estimate(extraction(features, 2), 1800)
    assert "| shards written | 4 | 2 | 0.50 |" in text
    assert "| photos detected | 10 | 4 | 0.40 |" in text
    assert "| hours | 2 | 0.5 | 0.25 |" in text
    assert compare_with_estimate(extraction(features, 2), 1800) == ""


def test_an_extraction_that_wrote_nothing_uses_up_the_estimate(features: FeatureSet):
    features.store.replace(ESTIMATE, canonical_json(asdict(PLANNED)))
    assert compare_with_estimate(extraction(features, 0), 1) == ""
    assert ESTIMATE not in features.store.objects()


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"shards": 1}', b'{"unknown": 1}'])
def test_an_unreadable_estimate_is_left_out(features: FeatureSet, data: bytes):
    features.store.replace(ESTIMATE, data)
    assert compare_with_estimate(extraction(features, 1), 1) == ""
