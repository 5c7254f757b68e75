"""A user's own detector, by import path, held to the contract before a photo is read."""

import pytest

from infra.errors import UserError
from pipelines.detectors import registry
from pipelines.detectors.check import find_fault

TINY = "tests.support.tiny_detector:TinyDetector"


def test_a_sound_detector_passes():
    spec = registry.resolve(TINY, {"scale": 2.0})
    assert registry.fingerprint(TINY, spec) == registry.fingerprint(TINY, registry.resolve(TINY, {"scale": 2.0}))
    assert registry.fingerprint(TINY, spec) != registry.fingerprint(TINY, registry.resolve(TINY))
    assert find_fault(spec, "cpu") == ""


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("build", "RuntimeError: no weights"),
        ("count", "2 results for 3 photos"),
        ("outside", "boxes: some reach outside the photo of 200 x 120 pixels"),
        ("random", "the same photo gives other regions the second time"),
    ],
)
def test_each_fault_is_found(fault: str, message: str):
    assert message in find_fault(registry.resolve(TINY, {"fault": fault}), "cpu")


def test_the_embedded_detector_passes_its_own_check():
    assert find_fault(registry.resolve("embedded"), "cpu") == ""


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("no.such.module:Class", {}, r"cannot be imported .*no"),
        ("tests.support.tiny_detector:Other", {}, "cannot be imported"),
        (TINY, {"size": 3}, "its settings do not fit"),
        ("collections:OrderedDict", {}, "it has no feature_dim, region_range, class_names, fingerprint, build"),
        ("embedded", {"nms": 3}, "its settings do not fit"),
    ],
)
def test_what_is_no_detector_is_said(name: str, settings: dict, message: str):
    with pytest.raises(UserError, match=message):
        registry.resolve(name, settings)


def test_a_fingerprint_that_moves_is_refused():
    class Moving:
        count = 0

        def fingerprint(self) -> str:
            self.count += 1
            return f"moving-{self.count}"

    with pytest.raises(UserError, match="must give the same file name each time"):
        registry.fingerprint("moving", Moving())
