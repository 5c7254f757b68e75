"""Which failures of workers end a training at once."""

import errno
import pickle
from types import SimpleNamespace

import pytest
import torch
from ray.exceptions import RayActorError
from ray.train import ControllerError, WorkerGroupError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError
from torch.distributed import DistBackendError

from infra.errors import AccessDeniedError, LeaseLostError, StorageError, UserError
from pipelines.training import worker
from pipelines.training.config import TrainConfig
from pipelines.training.failures import FailAtOnce, permanent_cause

PERMANENT = [
    UserError("the training diverged"),
    LeaseLostError("lost"),
    AssertionError(),
    TypeError("x"),
    KeyError("x"),
    RuntimeError("The size of tensor a (3) must match the size of tensor b (4) at non-singleton dimension 0"),
    RuntimeError("CUDA error: device-side assert triggered"),
    NotImplementedError("Could not run 'aten::a' with arguments from the 'CUDA' backend: connection"),
    AccessDeniedError("/shards/a.tar: cannot be accessed (Permission denied)"),
    PermissionError(errno.EACCES, "Permission denied", "/cache"),
    FileNotFoundError(errno.ENOENT, "No such file or directory", "/cache"),
]
CURABLE = [
    StorageError("s3://b: PutObject failed"), ConnectionResetError(), RuntimeError("Connection closed by peer"),
    MemoryError(), RayActorError(), WorkerHealthCheckFailedError("no response", RayActorError()),
    DistBackendError("remote process exited"), OSError(errno.EIO, "Input/output error"),
    RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 1800000ms"),
    RuntimeError("CUDA error: uncorrectable ECC error encountered"),
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


def test_too_little_gpu_memory_names_the_fields(monkeypatch: pytest.MonkeyPatch):
    text = (
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 GiB of which 1.50 GiB is "
        "free. Including non-PyTorch memory, this process has 77.60 GiB memory in use."
    )

    def train(job: object, log_fields: dict[str, object]) -> None:
        raise torch.OutOfMemoryError(text)

    monkeypatch.setattr(worker, "_train", train)
    monkeypatch.setattr(worker.ray.train, "get_context", lambda: SimpleNamespace(get_world_rank=lambda: 0))
    bar = SimpleNamespace(log=SimpleNamespace(remote=lambda *_: None))
    job = SimpleNamespace(train=TrainConfig(batch_size=512, num_workers=4), bar=bar, run_id="r", tracking=None)
    with pytest.raises(UserError) as caught:
        worker.train_loop({"job": job})  # type: ignore[dict-item]
    assert str(caught.value) == (
        "train.batch_size is 512 with train.num_workers=4, for which a GPU has too little memory (CUDA out of memory. "
        "Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 GiB of which 1.50 GiB is free); lower "
        "train.batch_size, or raise train.num_workers (they share a batch), or set train.precision=bf16"
    )


def test_a_failed_rank_logs_the_step_it_has_taken(monkeypatch: pytest.MonkeyPatch):
    def train(job: object, log_fields: dict[str, object]) -> None:
        log_fields["step"] = 7
        raise ValueError("nan")

    sent: list[tuple[object, ...]] = []
    monkeypatch.setattr(worker, "_train", train)
    monkeypatch.setattr(worker.ray.train, "get_context", lambda: SimpleNamespace(get_world_rank=lambda: 1))
    bar = SimpleNamespace(log=SimpleNamespace(remote=lambda *record: sent.append(record)))
    with pytest.raises(ValueError, match="nan"):
        worker.train_loop({"job": SimpleNamespace(bar=bar, run_id="r")})  # type: ignore[dict-item]
    ((_, _, text, fields),) = sent
    assert text == "rank 1 failed: ValueError: nan"
    assert fields == {"event": "rank_failed", "rank": 1, "run": "r", "step": 7}
