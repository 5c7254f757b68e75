"""Which failures of workers end a training at once."""

import pickle

import pytest
from ray.exceptions import RayActorError
from ray.train import ControllerError, WorkerGroupError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

from infra.errors import LeaseLostError, StorageError, UserError
from pipelines.training.failures import FailAtOnce, permanent_cause

PERMANENT = [
    UserError("the training diverged"),
    LeaseLostError("lost"),
    AssertionError(),
    TypeError("x"),
    KeyError("x"),
]
CURABLE = [
    StorageError("s3://b: PutObject failed"), ConnectionResetError(), RuntimeError("Connection closed by peer"),
    MemoryError(), RayActorError(), WorkerHealthCheckFailedError("no response", RayActorError()),
]  # fmt: skip


@pytest.mark.parametrize("error", PERMANENT, ids=repr)
def test_error_that_a_restart_repeats_is_raised(error: Exception):
    with pytest.raises(type(error)) as caught:
        FailAtOnce().after_exception(None, {0: RuntimeError("Connection closed by peer"), 1: error})
    assert caught.value is error
    error.add_note("Traceback of the worker")
    cause = permanent_cause(pickle.loads(pickle.dumps(ControllerError(error))))  # noqa: S301
    assert cause is not None
    assert (cause.args, cause.__notes__[-1]) == (error.args, "Traceback of the worker")


@pytest.mark.parametrize("error", CURABLE, ids=repr)
def test_other_failures_are_left_to_ray_train(error: Exception):
    FailAtOnce().after_exception(None, {0: error})
    assert permanent_cause(ControllerError(error)) is None
    assert permanent_cause(WorkerGroupError("failed", {0: error})) is None
