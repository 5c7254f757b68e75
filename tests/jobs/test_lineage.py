"""The command `jobs.lineage`: text and JSON, and exit code 1 for a broken link."""

import json
from pathlib import Path

import pytest

from infra.tracking import TrackingConfig
from pipelines.features.feature_set import FeatureSet
from pipelines.lineage.trace import trace
from tests.jobs.conftest import Call
from tests.support.feature_sets import manifest, receipt_of, write_set


@pytest.fixture
def features(tmp_path: Path) -> FeatureSet:
    return write_set(tmp_path, manifest(tmp_path))


def test_the_lineage_is_printed_as_text(call: Call, features: FeatureSet):
    code, out, _ = call("jobs.lineage", features.uri)
    assert code == 0
    assert out == f"{trace(features.uri, TrackingConfig()).text()}\n"
    assert features.pinned_uri in out


def test_json_holds_every_object_and_check(call: Call, features: FeatureSet):
    code, out, _ = call("jobs.lineage", features.uri, "--json")
    document = json.loads(out)
    assert (code, document["uri"], document["broken"]) == (0, features.uri, False)
    assert [each["kind"] for each in document["objects"]] == ["manifest", "detector", "feature set", "run"]
    states = {each["kind"]: [check["state"] for check in each["checks"]] for each in document["objects"]}
    assert states == {"manifest": ["ok"], "detector": ["not checked"], "feature set": ["ok"], "run": ["not checked"]}


@pytest.mark.parametrize("option", [[], ["--json"]])
def test_a_broken_link_is_exit_code_1(call: Call, features: FeatureSet, option: list[str]):
    path = receipt_of(features, "p0")
    path.write_text(path.read_text().replace('"p0"', '"p77"'))
    code, out, err = call("jobs.lineage", features.uri, *option)
    assert (code, err) == (1, "")
    assert "the index or a receipt is corrupt" in out


def test_a_uri_that_names_nothing_is_refused(call: Call):
    code, out, err = call("jobs.lineage", "nowhere")
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("error: nowhere: no finished feature set here")
