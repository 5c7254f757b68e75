"""Training loop of each Ray Train worker: DDP steps on its part of every batch, validation and checkpoints.

Each step is a deterministic function of the previous checkpoint and the step number, so resuming is exact.
"""

import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.train
import ray.train.torch
import torch
from numpy.typing import NDArray
from torch import nn

from infra.errors import LeaseLostError
from infra.log import event, log, relayed
from infra.system_metrics import system_metrics
from infra.tracking import Tracking
from pipelines.features.feature_set import FeatureSet
from pipelines.training.batches import Batch
from pipelines.training.checkpoint import (
    ON_PLATEAU,
    PROGRESS,
    MetricRow,
    epoch_checkpoint,
    step_checkpoint,
)
from pipelines.training.checkpoint_writer import CheckpointWriter
from pipelines.training.config import TrainConfig
from pipelines.training.data import batches_of, local_splits
from pipelines.training.divergence import require_finite_scores
from pipelines.training.failures import out_of_memory
from pipelines.training.initial_state import initial_state
from pipelines.training.metric_window import MetricWindow
from pipelines.training.optimizer import current_rates
from pipelines.training.plateau import on_plateau, plateau_warning
from pipelines.training.prefetch import prefetch
from pipelines.training.profile import log_memory, profiled, record_allocations
from pipelines.training.run_directory import Lease
from pipelines.training.schedule import uses_hardest_negatives
from pipelines.training.shard_cache import CacheConfig
from pipelines.training.step import objective_of, take_step
from pipelines.training.stop_requests import StopRequests
from pipelines.training.text_encoder import fetch_text_encoder
from pipelines.training.validation import validation_scores
from pipelines.training.validation_report import validation_report
from pipelines.training.window_metrics import record_window
from shan_model.config import ModelConfig
from shan_model.gather import sum_over_ranks
from shan_model.metrics import Recalls, retrieval_recalls

PREEMPTION_CHECK_STEPS = 10
"""Steps between checks for an announced preemption. Each check synchronizes all ranks."""
SHOW_S = 0.2
"""Seconds between updates of the progress bar, each of which is a message to the driver's node."""


@dataclass(frozen=True)
class TrainJob:
    """Everything that a worker is given."""

    features: str
    """URI of the feature set, with its digest."""
    lineage: dict[str, str]
    """Stored in every checkpoint."""
    model: ModelConfig
    train: TrainConfig
    cache: CacheConfig
    word_vectors: NDArray[np.float32] | None
    """One row per word of the vocabulary, or None if the model has no fixed embedding."""
    tracking: Tracking
    run_id: str
    lease: Lease
    """Lease of the driver."""
    bar: Any
    """Actor of `infra.progress.worker_bar`, which counts steps."""


def train_loop(settings: dict[str, TrainJob]) -> None:
    """Trains from the last checkpoint, or from the start, to the end or until the driver asks it to stop."""
    job, rank = settings["job"], ray.train.get_context().get_world_rank()
    with relayed(job.bar.log.remote, rank=rank, run=job.run_id) as fields:
        try:
            _train(job, fields)
        except torch.OutOfMemoryError as error:
            log_memory(job.tracking, job.run_id, rank)
            raise out_of_memory(error, job.train) from error
        except Exception as error:
            event("rank_failed", f"rank {rank} failed: {type(error).__name__}: {error}")
            error.add_note(traceback.format_exc())  # Ray Train passes on the exception without its traceback
            raise


def _train(job: TrainJob, log_fields: dict[str, Any]) -> None:
    torch.set_num_threads(job.train.cpus_per_worker)  # more threads than CPUs slow each other down
    record_allocations(job.train.profile_steps)
    worker = TrainWorker(job, log_fields)
    if (last := ray.train.get_checkpoint()) is not None:
        with last.as_directory() as folder:
            worker.state.load(Path(folder), last.path)
        worker.state.progress.require_fits(worker.steps_per_epoch, f"{last.path}/{PROGRESS}")
    worker.show()
    step, log_file = worker.state.progress.step, log_location()
    started = f"rank {worker.rank} of {worker.ranks} trains from step {step}; its log is {log_file}"
    log_fields["step"] = step
    event("rank_started", started, log=log_file)
    profiling = profiled(
        job.train.profile_steps if worker.rank == 0 else 0, step, worker.device, job.tracking, job.run_id, job.lease
    )
    # The driver reports a lost lease.
    with worker.system_metrics(), suppress(LeaseLostError), profiling as worker.after_step:
        while not worker.stopped and not worker.state.progress.is_finished(job.train):
            worker.run_epoch()


class TrainWorker:
    """One data-parallel process of a training."""

    def __init__(self, job: TrainJob, log_fields: dict[str, Any]) -> None:
        self.job, self.config = job, job.train
        self.log_fields = log_fields
        """Fields of all that this process logs; `step` is the last one that it has taken."""
        context = ray.train.get_context()
        self.rank, self.ranks = context.get_world_rank(), context.get_world_size()
        features = FeatureSet.open(job.features)
        train, self.val = local_splits(features, self.config, job.cache)
        self.batches = batches_of(train, self.config)
        self.steps_per_epoch = steps_per_epoch(self.batches.batches_per_epoch, self.config)
        fetch_text_encoder(job.model)
        self.device = ray.train.torch.get_device()
        self.state = initial_state(job.model, self.config, train.captions, job.word_vectors, self.device)
        self.objective: nn.Module = ray.train.torch.prepare_model(objective_of(self.state.shan, self.config))
        self.writer = CheckpointWriter(job.lease, job.run_id, job.lineage) if self.rank == 0 else None
        self.stop_requests = StopRequests(job.bar, self.config.log_every_n_steps) if self.rank == 0 else None
        self.unreported: list[MetricRow] = []
        self.preempted = self.stopped = False
        self.window = MetricWindow()
        self.after_step: Callable[[], object] = lambda: None
        self.shown = time.monotonic()

    def system_metrics(self) -> AbstractContextManager[None]:
        """Returns a context that logs the metrics of this node, from one of its workers, to a tracking server."""
        context, tracking = ray.train.get_context(), self.job.tracking
        if context.get_local_rank() or tracking.is_file:
            return nullcontext()
        return system_metrics(tracking, self.job.run_id, f"node_{context.get_node_rank()}")

    def run_epoch(self) -> None:
        """Trains the remaining steps of the epoch, validates and saves a checkpoint.

        If the driver asks to stop, saves a checkpoint after the current step and returns with `stopped` set.
        """
        progress, config = self.state.progress, self.config
        epoch, done = divmod(progress.step, self.steps_per_epoch)
        if progress.step == (progress.validated + 1) * self.steps_per_epoch:  # interrupted before its validation
            epoch, done = progress.validated, self.steps_per_epoch
        self.window = MetricWindow()  # excludes the time of the validation before
        for batches in self._step_batches(epoch, done):
            self._step(batches)
            at_end = progress.step == (epoch + 1) * self.steps_per_epoch
            # The end of an epoch has its own checkpoint. If a preemption is announced then, the next check saves.
            checkpoint = self.stopped or (
                not at_end and (progress.step % config.checkpoint_every_n_steps == 0 or self._newly_preempted())
            )
            if progress.step % config.log_every_n_steps == 0 or at_end or checkpoint:
                self._log_window()
            if checkpoint:
                self._report({"score": -1.0}, step_checkpoint(progress.step, self.job.lease.token))
            if self.stopped:
                return
        self._finish_epoch(epoch)

    def show(self, note: str = "") -> None:
        """Sets the driver's progress bar to the current step; after a restart it moves back."""
        if self.rank == 0:
            self.shown = time.monotonic()
            self.job.bar.update.remote(self.state.progress.step, note)

    def _step_batches(self, epoch: int, done: int) -> Iterator[list[Batch]]:
        """Yields this rank's batches of each remaining step, and measures the time spent waiting for them."""
        accumulated = self.config.gradient_accumulation_steps
        batches = prefetch(self.batches.batches(epoch, done * accumulated, self.rank, self.ranks))
        for _ in range(done, self.steps_per_epoch):
            start = time.perf_counter()
            of_step = list(islice(batches, accumulated))
            self.window.waited_s += time.perf_counter() - start
            yield of_step

    def _step(self, batches: list[Batch]) -> None:
        inputs = self.objective, batches, self.config, self.steps_per_epoch, self.rank
        self.window.is_mined = uses_hardest_negatives(self.config, self.state.progress, self.steps_per_epoch)
        stop = self.stop_requests is not None and self.stop_requests.must_stop(self.state.progress.step + 1)
        loss, norm, self.stopped = take_step(self.state, *inputs, stop=stop)
        self.log_fields["step"] = self.state.progress.step
        self.after_step()
        self.window.losses.append(loss)
        self.window.norms.append(norm)
        self.window.captions += sum(len(batch.captions) for batch in batches)
        self.window.batches += len(batches)
        self.window.last = batches[-1]
        if time.monotonic() > self.shown + SHOW_S:
            self.show()

    def _newly_preempted(self) -> bool:
        """Returns whether Ray has announced, for the first time, that one of its nodes will be preempted."""
        if self.preempted or self.state.progress.step % PREEMPTION_CHECK_STEPS:
            return False
        self.preempted = ray.train.get_preemption_info() is not None
        return self.preempted

    def _log_window(self) -> None:
        """Logs the metrics since the last call, on every rank."""
        rates = current_rates(self.state.optimizer, self.config)
        summary = self.window.summary(self.ranks, rates, self.device)
        record_window(self.window, summary, self.state, self.config, self.job.run_id, self.rank)
        self._log(summary)
        if self.rank == 0:
            event("steps", f"step {self.state.progress.step}: loss {summary['loss']:.4f}", **summary)
        self.window = MetricWindow()

    def _finish_epoch(self, epoch: int) -> None:
        progress = self.state.progress
        scores_NC = validation_scores(
            self.state.evaluation_model, self.val, self.rank, self.ranks, self.config.precision
        )
        require_finite_scores(scores_NC, epoch + 1, self.config)
        recalls = retrieval_recalls(scores_NC, self.val.photo_of_caption)
        progress.validated = epoch + 1
        if recalls.rsum > progress.best_rsum:
            progress.best_rsum, progress.best_epoch = recalls.rsum, epoch + 1
        metrics = {f"val_{name}": value for name, value in recalls.as_metrics().items()}
        plateau = on_plateau(scores_NC, self.val.photo_of_caption, self.config.margin)
        self._log({**metrics, ON_PLATEAU: float(plateau), "epoch": epoch + 1})
        if self.rank == 0:
            event("epoch", self._note(recalls), epoch=epoch + 1, **metrics)
            if plateau:
                log.warning(plateau_warning(epoch + 1, self.config), extra={"event": "plateau", "epoch": epoch + 1})
        reported = {"score": recalls.rsum, "best": progress.best_rsum, "epoch": epoch + 1, **metrics}
        self._report(reported, epoch_checkpoint(epoch + 1, self.job.lease.token), scores_NC)
        self.show(self._note(recalls))

    def _log(self, metrics: dict[str, float]) -> None:
        row = (self.state.progress.step, time.time_ns() // 1_000_000, metrics)
        self.state.progress.history.append(row)
        self.unreported.append(row)

    def _report(self, metrics: dict[str, Any], name: str, scores_NC: "NDArray[np.floating] | None" = None) -> None:
        """Reports metrics and a checkpoint to Ray Train, which stores it while training continues.

        Metrics are sent to MLflow with the checkpoint that follows them, so that a restart logs no step twice. Every
        rank reports, because Ray Train waits for all. Raises LeaseLostError, on every rank, if the driver has lost it.
        """
        lost = self.rank == 0 and self.job.lease.is_lost()
        if sum_over_ranks(torch.tensor(float(lost), device=self.device)):
            raise LeaseLostError("lost the lease: another process resumed this run")
        checkpoint = None
        if self.writer is not None:
            validation = None if scores_NC is None else validation_report(scores_NC, self.val)
            checkpoint = self.writer.write(self.state, validation)
        ray.train.report(
            {**metrics, "rows": self.unreported, "step": self.state.progress.step},
            checkpoint=checkpoint,
            checkpoint_dir_name=name,
            checkpoint_upload_mode=ray.train.CheckpointUploadMode.ASYNC,
            checkpoint_upload_fn=self.writer.upload if self.writer is not None else None,
            delete_local_checkpoint_after_upload=True,
        )
        self.unreported = []

    def _note(self, recalls: Recalls) -> str:
        """Returns the text of the progress bar after an epoch."""
        progress = self.state.progress
        losses = [metrics["loss"] for _, _, metrics in progress.history if "loss" in metrics]
        return f"epoch {progress.validated}: loss {losses[-1]:.2f}, validation rSum {recalls.rsum:.1f}"


def log_location() -> str:
    """Returns node and path of the log file that Ray Train writes for this rank, as `node:path`."""
    from ray.train.v2._internal.logging.logging import get_train_application_worker_log_path

    return f"{ray.util.get_node_ip_address()}:{get_train_application_worker_log_path()}"


def steps_per_epoch(batches: int, config: TrainConfig) -> int:
    """Returns the optimizer steps of an epoch with that many batches; an incomplete last step is dropped."""
    return max(1, batches // config.gradient_accumulation_steps)
