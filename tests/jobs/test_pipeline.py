"""The command `jobs.pipeline` refuses what a stage would refuse. `tests/e2e/test_quickstart.py` runs it."""

from pathlib import Path

import pytest

from tests.jobs.conftest import UserErrorOf

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
