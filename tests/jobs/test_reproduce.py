"""The command `jobs.reproduce` refuses bad input. `tests/e2e/test_reproduce.py` runs it."""

import pytest

from tests.jobs.conftest import UserErrorOf


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--features=../none"], "no finished feature set here"),
        (["--features=../none", "--models=shan"], "--models is 'shan'; give one of 'shan-t2i'"),
        (["--features=../none", "--report=../photos"], "--report"),
        ([], "--features"),
    ],
)
def test_reproduce_refuses_bad_input(user_error: UserErrorOf, argv: list[str], said: str):
    assert said in user_error("jobs.reproduce", *argv)
