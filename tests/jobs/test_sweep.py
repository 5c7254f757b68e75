"""The command `jobs.sweep` refuses its input before it claims a directory.

`tests/faults/test_sweep_faults.py` runs it.
"""

from pathlib import Path

import pytest

from infra.tracking import Tracking
from tests.jobs.conftest import UserErrorOf
from tests.support.feature_sets import FEATURE_DIM, manifest, write_set

SET = ["--features=../set", "--name=m", f"--model.region_dim={FEATURE_DIM}", "--train.batch_size=4"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (SET, "space"),
        ([*SET, "--space"], "space"),
        (
            ["--features=nowhere", "--name=m", "--space", "train.seed=grid(0, 1)"],
            "nowhere: no finished feature set here",
        ),
        (
            [*SET, "--space", "train.seed"],
            "--space 'train.seed' is not valid; write section.field=distribution(values)",
        ),
        ([*SET, "--sweep.num_trials=0", "--space", "train.seed=grid(0, 1)"], "sweep.num_trials is 0"),
    ],
)
def test_bad_input_is_refused_and_no_directory_claimed(
    data: Path, user_error: UserErrorOf, tracking: Tracking, arguments: list[str], said: str
):
    write_set(data, manifest(data, 12))
    assert said in user_error("jobs.sweep", *arguments, f"--tracking.uri={tracking.uri}")
    assert list((data / "cwd").iterdir()) == []
