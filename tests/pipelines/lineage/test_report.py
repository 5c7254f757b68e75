"""A traced lineage as text and JSON."""

import json

from pipelines.lineage.report import Check, Lineage, Node, agreement

OK, BROKEN, UNKNOWN = Check("ok", "equal"), Check("broken", "it differs"), Check("not checked", "moved")


def test_text_and_json_have_every_object_and_check():
    lineage = Lineage("runs:/1", (Node("manifest", "tiny", (OK, UNKNOWN)), Node("run", "runs:/1", (BROKEN,))))
    assert lineage.is_broken
    assert lineage.text().splitlines() == [
        "manifest     tiny",
        "  ok           equal",
        "  not checked  moved",
        "run          runs:/1",
        "  broken       it differs",
        "lineage of runs:/1: 1 ok, 1 broken, 1 not checked",
    ]
    document = json.loads(json.dumps(lineage.document()))
    assert (document["uri"], document["broken"]) == ("runs:/1", True)
    assert document["objects"][1] == {
        "kind": "run",
        "name": "runs:/1",
        "checks": [{"state": "broken", "finding": "it differs"}],
    }


def test_a_chain_that_cannot_be_checked_is_not_broken():
    assert not Lineage("x", (Node("run", "x", (OK, UNKNOWN)),)).is_broken


def test_records_agree_by_name():
    expected = {"manifest": "m", "fingerprint": "f"}
    assert agreement(expected | {"more": "x"}, expected, "the run", "the index") == Check(
        "ok", "manifest, fingerprint equal those of the index"
    )
    found = agreement({"manifest": "n"}, expected, "the run", "the index")
    assert found.state == "broken"
    assert found.finding.split("; ") == [
        "manifest of the run is n, but the index has m",
        "fingerprint of the run is missing, but the index has f",
    ]
