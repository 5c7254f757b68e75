"""The command `jobs.extract` refuses its input before it starts Ray. `tests/e2e/test_extract_s3.py` runs it."""

from pathlib import Path

import pytest

from tests.jobs.conftest import UserErrorOf


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "dataset"),
        (["--dataset=../good.json", "--photos=../x"], "../x: no such photo folder"),
        (["--dataset=../none.json"], "../none.json: no such file"),
        (["--plan", "--dataset=../good.json", "--photos=."], "1 of 1 photos of data set d do not exist"),
        (["--dataset=../good.json", "--estimate.num_nodes=-1"], "estimate.num_nodes is -1; it must not be negative"),
        (["--dataset=../good.json", "--model.joint_dim=8"], "--model.joint_dim"),
    ],
)
def test_bad_input_is_refused_and_nothing_written(data: Path, user_error: UserErrorOf, arguments: list[str], said: str):
    assert said in user_error("jobs.extract", *arguments)
    assert list((data / "cwd").iterdir()) == []
