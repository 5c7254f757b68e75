"""Tests of the check of a plugin against the detector contract."""

import pytest

from pipelines.detectors import registry
from pipelines.detectors.check import contract_error

TINY = "tests.support.tiny_detector:TinyDetector"


def test_a_valid_plugin_passes():
    spec = registry.resolve(TINY, {"scale": 2.0})
    assert registry.fingerprint(TINY, spec) == registry.fingerprint(TINY, registry.resolve(TINY, {"scale": 2.0}))
    assert registry.fingerprint(TINY, spec) != registry.fingerprint(TINY, registry.resolve(TINY))
    assert contract_error(spec, "cpu") == ""


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("build", "RuntimeError: no weights"),
        ("build exits", "SystemExit: no weights"),
        ("nothing", "it returns NoneType, expected a list of Regions"),
        ("count", "2 results for 3 photos"),
        ("outside", "boxes: some extend outside the photo of 200 x 120 pixels"),
        ("random", "the same photo gives different regions the second time"),
    ],
)
def test_each_violation_is_reported(fault: str, message: str):
    assert message in contract_error(registry.resolve(TINY, {"fault": fault}), "cpu")


def test_the_embedded_detector_passes():
    assert contract_error(registry.resolve("embedded"), "cpu") == ""
