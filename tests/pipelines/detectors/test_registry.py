"""Tests of the registry: names, plugins, and the validation of specs without loading a detector."""

import subprocess
import sys

import pytest

from infra.errors import UserError
from pipelines.detectors import registry

TINY = "tests.support.tiny_detector:TinyDetector"


def test_an_unknown_name_is_an_error_with_the_known_names():
    with pytest.raises(UserError, match=r"'yolo'.*bottom_up, embedded"):
        registry.resolve("yolo")


def test_a_fingerprint_is_computed_without_torch():
    code = (
        "import sys; from pipelines.detectors import registry; print(registry.resolve('embedded').fingerprint()); "
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == registry.resolve("embedded").fingerprint()


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("no.such.module:Class", {}, r"cannot be imported .*no"),
        ("tests.support.tiny_detector:Other", {}, "cannot be imported"),
        ("os:path", {}, "detector os:path: it is a module, not a class; give package.module:Class"),
        (TINY, {"size": 3}, "has no setting 'size'; it has scale, seconds, fault"),
        ("collections:OrderedDict", {}, "it lacks feature_dim, region_range, class_names, fingerprint, build"),
        ("embedded", {"nms": 3}, "has no setting 'nms'; it has revision"),
        ("bottom_up", {}, "extract.detector_settings: detector bottom_up needs the setting 'weights'; give it"),
        ("bottom_up", {"weights": 3}, "invalid settings"),
    ],
)
def test_an_invalid_detector_is_reported(name: str, settings: dict, message: str):
    with pytest.raises(UserError, match=message):
        registry.resolve(name, settings)


def test_a_fingerprint_that_changes_between_calls_is_refused():
    class Moving:
        count = 0

        def fingerprint(self) -> str:
            self.count += 1
            return f"moving-{self.count}"

    with pytest.raises(UserError, match="must return the same file name on each call"):
        registry.fingerprint("moving", Moving())
