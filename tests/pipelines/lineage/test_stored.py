"""Checks of a stored feature set: its receipts, and its fingerprint recomputed, also at an earlier revision."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pipelines.detectors.contract import fingerprint_of
from pipelines.detectors.embedded_config import EmbeddedConfig
from pipelines.lineage.report import Check
from pipelines.lineage.stored import check_fingerprint, check_receipts, feature_set_nodes, open_snapshot
from tests.support.bad_stores import at_every_expiry
from tests.support.feature_sets import manifest, receipt_of, write_set
from tests.support.mutations import edit_json


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


def test_every_receipt_is_compared_with_the_index(tmp_path: Path):
    features = write_set(tmp_path, manifest(tmp_path))
    assert check_receipts(features).finding == "index and 4 receipts agree, and have this digest"
    assert [node.checks[0].state for node in feature_set_nodes(features)] == ["ok", "not checked", "ok"]
    edit_json(receipt_of(features, "p5"), lambda document: document["written"][0].update(sha256="f" * 64))
    check = feature_set_nodes(features)[-1].checks[0]
    assert check.state == "broken"
    assert "the index or a receipt is corrupt" in check.finding


def test_an_expired_token_breaks_no_link(tmp_path: Path):
    """Receipts and manifest may be intact: the store does not show them."""
    features = write_set(tmp_path, manifest(tmp_path))
    refused = open_with_expired_token(features.pinned_uri)
    assert refused.state == "not checked"
    assert "rejects the credentials (ExpiredToken)" in refused.finding
    checks = at_every_expiry(lambda: [node.checks[0] for node in feature_set_nodes(features)])
    assert len(checks) > len(features.index.shards)
    for manifest_, _, receipts in checks[:-1]:
        assert {manifest_.state, receipts.state} in ({"not checked"}, {"ok", "not checked"})
        assert "rejects the credentials (ExpiredToken)" in manifest_.finding + receipts.finding
    assert [check.state for check in checks[-1]] == ["ok", "not checked", "ok"]


def open_with_expired_token(uri: str) -> Check:
    return at_every_expiry(lambda: open_snapshot(uri))[0]


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
