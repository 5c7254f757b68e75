"""Tables of feature sets, runs and models, from real stores in every state."""

from pathlib import Path

import pytest

from infra.registry import CHAMPION
from infra.storage.open import open_store
from infra.tracking import Tracking, TrackingConfig, require_store
from pipelines.features.layout import receipt_name
from pipelines.status import feature_sets, models, trainings
from tests.support import feature_sets as sets
from tests.support.bad_stores import UNREADABLE


def test_feature_sets_in_every_state(tmp_path: Path):
    names = ("intact", "unfinished", "incomplete", "extended", "corrupt")
    stores = {name: sets.write_set(tmp_path / name, sets.manifest(tmp_path)) for name in names}
    root = tmp_path / "root"
    root.mkdir()
    for name, features in stores.items():
        Path(features.uri).rename(root / name)
    digest = stores["intact"].index.feature_set[:12]
    first = stores["intact"].index.shards[0].name
    (root / "unfinished" / "index.json").unlink()
    (root / "unfinished" / receipt_name(first)).unlink()
    (root / "incomplete" / f"{first}.tar").unlink()
    for ending in (".tar", ".receipt.json"):
        data = (root / "extended" / f"{first}{ending}").read_bytes()
        (root / "extended" / f"{first[:-8]}00000000{ending}").write_bytes(data)
    (root / "corrupt" / "index.json").write_text("{}")
    (root / "other").mkdir()
    (root / "other" / "index.json").write_text("{}")
    rows = {row[0]: row[1:5] for row in feature_sets(open_store(str(root))).rows}
    shards = str(len(stores["intact"].receipts))
    fewer = str(len(stores["intact"].receipts) - 1)
    assert rows == {
        "unfinished": ["not finished", "", "", fewer],
        "corrupt": [
            "index.json is not valid: its format is 'None', this release reads 'shan-features/0.2'",
            "",
            "",
            shards,
        ],
        "extended": [f"finished @{digest}, 1 shards of an unfinished extraction", "5", "1", shards],
        "incomplete": ["1 shards are missing", "5", "1", shards],
        "intact": [f"finished @{digest}", "5", "1", shards],
    }


def test_an_experiment_that_does_not_exist_has_no_trainings(tracking: Tracking):
    tracking.create_run("done", {})
    assert trainings(require_store(TrackingConfig(uri=tracking.uri, experiment="another"))).rows == []


def test_model_names_with_a_quote(tracking: Tracking):
    name = "bob's model"
    tracking.client().create_registered_model(name)
    assert name in [row[0] for row in models(tracking).rows]
    tracking.client().delete_registered_model(name)


def test_trainings_and_models(tracking: Tracking):
    client = tracking.client()
    done, runs = (tracking.create_run(name, {"feature_set_uri": "s3://b/set"}) for name in ("done", "runs"))
    tracking.log_metrics(done, {"val_rsum": 123.45, "epoch": 3}, 7)
    client.set_terminated(done)
    tracking.log_metrics(runs, {"loss": 2.5}, 1)
    table = {row[0]: row for row in trainings(tracking).rows}
    assert table[done][1:3] == ["done", "finished"]
    assert table[done][4:] == ["3", "123.5", "", "s3://b/set"]
    assert table[runs][2] == "running"
    assert table[runs][6] == "0 min ago"
    client.create_registered_model("shan")
    for _ in range(3):
        client.create_model_version("shan", "file:///nowhere", run_id=done)
    assert models(tracking).rows == [["shan", "3", "none", "", "", "1, 2, 3", ""]]
    client.set_registered_model_alias("shan", CHAMPION, "1")
    client.set_model_version_tag("shan", "1", "promotion.reason", "the first version")
    client.set_model_version_tag("shan", "2", "promotion.decision", "refused")
    client.create_registered_model("shan.promotion-lock")
    assert models(tracking).rows == [
        ["shan", "3", "1", "", "the first version", "3", "running, or a killed one left its lock"]
    ]


@pytest.mark.parametrize("root", ["", "nowhere"])
def test_a_root_without_feature_sets(tmp_path: Path, root: str):
    assert feature_sets(open_store(str(tmp_path / root))).rows == []


@pytest.mark.skipif(not UNREADABLE.exists(), reason="needs /proc")
def test_an_index_that_cannot_be_read_does_not_hide_the_others(tmp_path: Path):
    """As another user's file of mode 600."""
    for name in ("mine", "theirs"):
        (tmp_path / "root").mkdir(exist_ok=True)
        Path(sets.write_set(tmp_path / name, sets.manifest(tmp_path)).uri).rename(tmp_path / "root" / name)
    index = tmp_path / "root" / "theirs" / "index.json"
    index.unlink()
    index.symlink_to(UNREADABLE)
    states = {row[0]: row[1] for row in feature_sets(open_store(f"{tmp_path}/root")).rows}
    assert states["mine"].startswith("finished @")
    assert states["theirs"].startswith(f"{index}: cannot be accessed (Input/output error); check")
