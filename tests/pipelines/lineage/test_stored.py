"""The fingerprint of a detector, recomputed from settings and weights, also at an earlier revision."""

from dataclasses import dataclass
from typing import ClassVar

from pipelines.detectors.contract import fingerprint_of
from pipelines.detectors.embedded_config import EmbeddedConfig
from pipelines.lineage.stored import check_fingerprint


@dataclass(frozen=True)
class Revised:
    """A detector whose code is at its second revision."""

    feature_dim: ClassVar[int] = 8
    region_range: ClassVar[tuple[int, int]] = (3, 3)
    class_names: ClassVar[dict[int, str]] = {0: "thing"}
    side: int = 4
    revision: int = 2

    def fingerprint(self) -> str:
        return fingerprint_of("revised", {}, {"side": self.side, "revision": self.revision})

    def build(self, device: str) -> None:
        """Is not called."""


NAME = f"{__name__}:Revised"


def test_settings_of_a_built_in_detector_give_its_fingerprint():
    recorded = EmbeddedConfig(lite2_side=260).fingerprint()
    assert check_fingerprint("embedded", {"lite2_side": 260}, recorded, "them").state == "ok"
    assert check_fingerprint("embedded", {}, recorded, "them").state == "broken"


def test_an_earlier_revision_is_not_broken():
    now, before = Revised(5).fingerprint(), Revised(5, revision=1).fingerprint()
    assert check_fingerprint(NAME, {"side": 5}, now, "them").finding == "computed again from them: equal"
    assert (
        check_fingerprint(NAME, {"side": 5}, before, "them").finding == "computed again from them at revision 1: equal"
    )
    assert check_fingerprint(NAME, {"side": 6}, before, "them").state == "broken"


def test_settings_that_the_detector_refuses_are_not_checked():
    assert check_fingerprint("embedded", {"weights": 1}, "embedded-1", "them").state == "not checked"
