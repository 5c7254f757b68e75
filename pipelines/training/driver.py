"""Runs Ray Train for a claimed training, from its last checkpoint if there is one."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import infra.cluster
from infra.cluster_resources import Bundle, ResourceRequest, wait_for_resources
from infra.errors import UserError
from infra.log import log
from infra.progress import worker_bar
from infra.tracking import Tracking
from pipelines.training.claim import ClaimedTraining
from pipelines.training.config import TrainConfig
from pipelines.training.data import batches_of
from pipelines.training.leased_files import leased_files
from pipelines.training.run_directory import ray_path
from pipelines.training.setup import TrainingSetup

if TYPE_CHECKING:
    from ray.train import Result, UserCallback
    from ray.train.torch import TorchTrainer

STOP_S = 20.0
"""Seconds that workers have to save a checkpoint after an interrupt; Kubernetes kills a process 30 s after SIGTERM."""


def connect_cluster(setup: TrainingSetup, dashboard: bool = False) -> None:
    """Connects to the cluster and waits until it has room for one training.

    Called before the run directory is claimed, so that errors leave nothing behind. Raises UserError if the cluster is
    unreachable or can never run the training.
    """
    infra.cluster.connect(setup.cluster, dashboard)
    wait_for_resources(setup.cluster, workers_request(setup.train))


def workers_request(train: TrainConfig) -> ResourceRequest:
    """Returns the resources of the fewest workers that can train."""
    field = "min_workers" if train.min_workers else "num_workers"
    workers = getattr(train, field)
    setting = f"train.{field} is {workers}" + (", with train.use_gpu" if train.use_gpu else "")
    fix = f"lower train.{field} or train.cpus_per_worker" + (", or set train.use_gpu to false" if train.use_gpu else "")
    return ResourceRequest([worker_resources(train)] * workers, setting, fix)


def worker_resources(train: TrainConfig) -> Bundle:
    """Returns the resources of one worker by Ray's names."""
    return {"CPU": train.cpus_per_worker, **({"GPU": 1} if train.use_gpu else {})}


def fit(
    training: ClaimedTraining,
    tracking: Tracking,
    on_steps: Callable[[int], None],
    callbacks: "Sequence[UserCallback]" = (),
) -> "Result":
    """Trains to the end on the connected cluster and returns Ray Train's result.

    `on_steps` is called again and again with the step that the workers have reached. Raises UserError if training fails
    more than `train.max_failures` times, the exception of a worker that a restart would only repeat, and LeaseLostError
    if another process resumes the training, also at an interrupt. At an interrupt, the workers save a checkpoint if
    they can within STOP_S; a second interrupt does not wait for them.
    """
    from ray.exceptions import RayError
    from ray.train import TrainingFailedError

    from pipelines.training.failures import permanent_cause
    from pipelines.training.worker import steps_per_epoch

    lease, train = training.lease, training.inputs.setup.train
    batches = batches_of(training.inputs.features.captioned("train"), train).batches_per_epoch
    workers = f"{train.num_workers} workers"
    with worker_bar("train", train.epochs * steps_per_epoch(batches, train), "step", workers, on_steps) as bar:
        trainer = _trainer(training, tracking, callbacks, bar)
        try:
            result = _fit_interruptibly(trainer, bar, lambda: tracking.end(training.run_id, "KILLED", lease.is_lost))
        except (KeyboardInterrupt, TrainingFailedError, RayError) as error:
            with suppress(OSError):  # an unreachable store must not hide the error
                lease.require()
            if isinstance(error, KeyboardInterrupt):
                raise
            if (cause := permanent_cause(error)) is not None:
                raise cause from None
            raise _given_up(training, error) from error
    lease.require()
    return result


def _trainer(
    training: ClaimedTraining, tracking: Tracking, callbacks: "Sequence[UserCallback]", bar: Any
) -> "TorchTrainer":
    from ray.train import CheckpointConfig, FailureConfig, LoggingConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from pipelines.training.checkpoint_metrics import CheckpointMetrics
    from pipelines.training.failures import FailAtOnce
    from pipelines.training.mlflow_callback import MlflowMetrics, MlflowSender, RankLogTags
    from pipelines.training.worker import TrainJob, train_loop

    inputs, directory = training.inputs, training.inputs.directory
    features, train, run_id = inputs.features, inputs.setup.train, training.run_id
    job = TrainJob(
        features=features.pinned_uri,
        lineage=training.lineage,
        model=inputs.setup.model,
        train=train,
        cache=inputs.setup.cache,
        word_vectors=inputs.word_vectors,
        tracking=tracking,
        run_id=run_id,
        lease=training.lease,
        bar=bar,
    )
    sender = MlflowSender(bar)
    to_mlflow = [MlflowMetrics(tracking, run_id, sender, bar, training.step), RankLogTags(tracking, run_id, sender)]
    files, path = leased_files(ray_path(directory.root), training.lease)
    trainer = TorchTrainer if callbacks else _trainer_without_clean_up()  # a sweep has callbacks
    return trainer(
        train_loop,
        train_loop_config={"job": job},
        scaling_config=ScalingConfig(
            num_workers=(train.min_workers, train.num_workers) if train.min_workers else train.num_workers,
            use_gpu=train.use_gpu,
            resources_per_worker=dict(worker_resources(train)),
        ),
        run_config=RunConfig(
            name=directory.name,
            storage_path=path,
            storage_filesystem=files,
            # Ray Train keeps the best checkpoint, and always the last one.
            checkpoint_config=CheckpointConfig(num_to_keep=1, checkpoint_score_attribute="score"),
            failure_config=FailureConfig(max_failures=train.max_failures),
            logging_config=LoggingConfig(log_level="WARNING"),
            callbacks=[CheckpointMetrics(), FailAtOnce(), *to_mlflow, *callbacks],
        ),
    )


def _trainer_without_clean_up() -> "type[TorchTrainer]":
    """Returns the trainer without Ray Train's clean-up of placement groups.

    Of Ray 2.60, it asks a dashboard whether the training's controller lives. On a machine with another cluster that can
    be the other one's, which knows no such controller; then it ends the workers. A placement group ends with its job,
    too, but that of a sweep has many trainings; there, `run_trial` and `require_dashboard` make sure that the dashboard
    is that of the sweep's cluster.
    """
    from ray.train.torch import TorchTrainer
    from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback

    class Trainer(TorchTrainer):
        def _create_default_callbacks(self) -> list[Any]:
            found: list[Any] = super()._create_default_callbacks()
            return [each for each in found if not isinstance(each, PlacementGroupCleanerCallback)]

    return Trainer


def _given_up(training: ClaimedTraining, error: Exception) -> UserError:
    """Returns the error of a training that Ray Train does not restart again."""
    reason = str(error).strip().splitlines()[-1].strip()
    retries = training.inputs.setup.train.max_failures
    return UserError(
        f"training failed after {retries} retries ({reason}); fix the cause, then re-run with --resume to continue "
        f"from {training.inputs.directory.uri}"
    )


def _fit_interruptibly(trainer: "TorchTrainer", bar: Any, end_run: Callable[[], None]) -> "Result":
    """Runs `trainer.fit` in a thread, because in the main thread Ray Train handles SIGINT and exits silently.

    At an interrupt, the workers are asked to save a checkpoint; the message of the exception names the one they saved.
    `end_run` is called before that is known, because SIGKILL may follow soon (after 3 s for a stopped Ray job).
    """
    fitted: Future[Result] = Future()

    def fit() -> None:
        try:
            fitted.set_result(trainer.fit())
        except BaseException as error:  # noqa: BLE001 raised in the main thread instead
            fitted.set_exception(error)

    threading.Thread(target=fit, name="ray-train", daemon=True).start()
    try:
        return fitted.result()
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_stopped(fitted, bar, end_run)) from None


def _stopped(fitted: "Future[Result]", bar: Any, end_run: Callable[[], None]) -> str:
    """Stops the workers. Returns which checkpoint they saved, if they saved one in time."""
    import ray

    try:
        has_started = ray.get(bar.request_stop.remote(), timeout=5)
        end_run()
        if not has_started:
            return ""
        log.info("saving a checkpoint, %.0f s at most; interrupt again to skip it", STOP_S)
        checkpoint = fitted.result(timeout=STOP_S).checkpoint
    except Exception:  # noqa: BLE001 - the training has ended, whatever the error was
        return f"no checkpoint was saved within {STOP_S:.0f} s"
    return f"checkpoint {PurePosixPath(checkpoint.path).name} is saved" if checkpoint is not None else ""
