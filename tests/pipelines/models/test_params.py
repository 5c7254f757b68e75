"""Parameters of a prediction."""

import pytest

from infra.errors import UserError
from pipelines.models.params import Params


def test_defaults_and_given_values():
    assert Params.of(None) == Params.of({}) == Params()
    assert Params.of({"task": "rank", "top_k": 3}) == Params(task="rank", top_k=3)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"task": "classify"}, "params: task is 'classify'; choose one of: score, rank, explain, encode"),
        ({"precision": "fp8"}, "params: precision is 'fp8'; choose one of: fp32, bf16"),
        ({"on_error": "ignore"}, "params: on_error is 'ignore'; choose one of: raise, null"),
        ({"batch_size": 0}, "batch_size is 0; give at least 0 and at least 1"),
        ({"top_k": -1}, "top_k is -1"),
        ({"batch_size": None}, "batch_size is None; give whole numbers"),
        ({"top_k": 3, "batchsize": 8}, "params: batchsize is unknown; choose from: task, query, top_k, precision, "),
    ],
)
def test_invalid_values_are_errors(params: dict, said: str):
    with pytest.raises(UserError, match=said):
        Params.of(params)
