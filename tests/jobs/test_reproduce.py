"""The command `jobs.reproduce` refuses bad input. `tests/e2e/test_reproduce.py` runs it."""

import pytest

from tests.jobs.conftest import Call, UserErrorOf


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--features=../photos"], "--features ../photos has neither index.json of a feature set nor train_ims.npy of"),
        (["--features=../none"], "give a finished feature set or a folder in SCAN's format"),
        (["--features=../none@0123456789ab"], "no snapshot 0123456789ab here"),
        (["--features=../none", "--models=shan"], "--models is 'shan'; give one of 'shan-t2i'"),
        (["--features=../none", "--report=../photos"], "--report"),
        (
            ["--features=../none", "--model.levels", "l2l", "--models=shan-full"],
            "--model.levels is l2l, but each model of --models has its own; omit it",
        ),
        (["--features=../none", "--model.matcher=sgr"], "--model.matcher is sgr, but each model"),
        ([], "--features"),
    ],
)
def test_reproduce_refuses_bad_input(user_error: UserErrorOf, argv: list[str], said: str):
    assert said in user_error("jobs.reproduce", *argv)


def test_the_last_value_of_an_option_is_used(call: Call):
    """`make reproduce` adds OPTIONS to those of a GPU."""
    gpu = ["--train.use_gpu", "true", "--train.num_workers", "1"]
    code, printed, _ = call("jobs.reproduce", "--features=f", *gpu, "--train.use_gpu", "false", "--print_config")
    assert code == 0
    assert "use_gpu: false" in printed
    assert "num_workers: 1" in printed
