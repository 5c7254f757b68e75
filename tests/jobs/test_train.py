"""The command `jobs.train` refuses its input before it claims a run directory. `tests/e2e` and `tests/faults` train."""

from pathlib import Path

import pytest

from tests.jobs.conftest import UserErrorOf
from tests.support.feature_sets import manifest, write_set

SET = ["--features=../set", "--name=m"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--name=m"], "features"),
        (["--features=x"], "name"),
        (["--features=nowhere", "--name=m"], "nowhere: no finished feature set here"),
        ([*SET, "--resume=maybe"], "--resume"),
        ([*SET, "--train.epochs=0"], "train.epochs is 0; it must be at least 1"),
        ([*SET, "--tracking.uri=mlruns"], "tracking.uri mlruns is not a tracking store"),
        ([*SET, "--sweep.num_trials=2"], "--sweep.num_trials"),
    ],
)
def test_bad_input_is_refused_and_nothing_written(data: Path, user_error: UserErrorOf, arguments: list[str], said: str):
    write_set(data, manifest(data, 12))
    assert said in user_error("jobs.train", *arguments)
    assert list((data / "cwd").iterdir()) == []
