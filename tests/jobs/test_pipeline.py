"""The command `jobs.pipeline` refuses what a stage would refuse. `tests/e2e/test_quickstart.py` runs it."""

import json
from pathlib import Path

import pytest

from infra.registry import set_champions
from infra.tracking import Tracking
from pipelines.features.mlflow_lineage import run_tags
from tests.jobs.conftest import UserErrorOf
from tests.support import feature_sets

GOOD = ["--dataset=../good.json", "--photos=../photos", "--name=m"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--name=m"], "dataset"),
        (GOOD[:2], "name"),
        (
            [*GOOD, "--until=deploy"],
            "--until is 'deploy'; give one of 'extract', 'train', 'evaluate', 'promote', 'index'",
        ),
        (GOOD, "no photo with captions is in split 'val', which is needed up to stage promote"),
        ([*GOOD, "--until=train"], "no photo with captions is in split 'val', which is needed up to stage train"),
        (
            ["--dataset=../fits.json", "--photos=../photos", "--name=m", "--dry-run"],
            "train.batch_size is 128, but split 'train' of data set d has only 4 photos",
        ),
        ([*GOOD, "--until=evaluate", "--intersect"], "--intersect has no effect with --until evaluate; omit it"),
        ([*GOOD, "--champion-features=none"], "none: no finished feature set here"),
        ([*GOOD, "--until=extract", "--extract.output=../good.json"], "good.json' cannot be written"),
    ],
)
def test_bad_input_is_refused_and_nothing_written(data: Path, user_error: UserErrorOf, arguments: list[str], said: str):
    assert said in user_error("jobs.pipeline", *arguments)
    assert list((data / "cwd").iterdir()) == []


def test_an_upgrade_on_other_photos_is_refused_at_once(data: Path, user_error: UserErrorOf, tracking: Tracking):
    """The champion has another detector, and features of one photo that the data set does not list."""
    rows = feature_sets.manifest(data / "champion", 12)
    trained_on = feature_sets.write_set(data / "champion", rows, fingerprint="other")
    feature_sets.write_photos(rows)
    run_id = tracking.create_run("m", run_tags(trained_on))
    tracking.client().create_registered_model("m")
    tracking.client().create_model_version("m", "file:///x", run_id, {"dataset": "d", "fingerprint": "other"})
    set_champions(tracking, "m", [1])
    images = [
        {"filename": photo.source, "split": photo.split, "sentences": [{"raw": text} for text in photo.captions]}
        for photo in rows.photos()
        if photo.key != "p10"
    ]
    (data / "d.json").write_text(json.dumps({"dataset": "d", "images": images}))
    command = ["--dataset=../d.json", "--photos=../champion/photos", "--name=m", f"--tracking.uri={tracking.uri}"]
    line = user_error("jobs.pipeline", *command, "--train.batch_size=2", "--train.num_workers=1")
    assert "split 'val' has 1 photos in data set d and 2 photos in " in line
    assert line.endswith("first other photo p10; add --intersect to compare on those 1")
    assert list((data / "cwd").iterdir()) == []
