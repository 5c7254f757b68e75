"""What each training process does: its share of every batch, DDP steps, validation shared between ranks, checkpoints.

Runs inside Ray Train workers; `jobs.train` starts them. Whatever happens at a step is a function of the checkpoint
before it and of the step's number, so that a training that was cut off goes on as if it had not been.
"""

import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import ray.train
import ray.train.torch
import torch
import torch.distributed
from numpy.typing import NDArray
from torch import Tensor, nn

from infra.errors import LeaseLostError
from infra.system_metrics import system_metrics
from infra.tracking import Tracking
from pipelines.features.feature_set import FeatureSet, Split
from pipelines.training.batches import Batch
from pipelines.training.checkpoint import Row, TrainState
from pipelines.training.config import TrainConfig
from pipelines.training.data import batches_of, splits_on_node
from pipelines.training.prefetch import read_ahead
from pipelines.training.run_directory import Seat
from pipelines.training.shard_cache import CacheConfig
from pipelines.training.step import objective_of, take_step
from pipelines.training.validation_report import validation_record, write_record
from shan_model.config import ModelConfig
from shan_model.encoders import GruEncoder
from shan_model.gather import max_over_ranks, sum_over_ranks
from shan_model.loss import is_collapsed
from shan_model.metrics import Recalls, retrieval_recalls
from shan_model.model import SHAN
from shan_model.scoring import RowRange, score_matrix
from shan_model.vocabulary import Vocabulary

PREEMPTION_EVERY = 10
"""Steps between questions to Ray whether a node is about to be taken away; each is a round trip of all ranks."""


@dataclass(frozen=True)
class TrainJob:
    """All that a worker needs to know; it opens everything else itself."""

    features: str
    """URI of the feature set, of one digest."""
    lineage: dict[str, str]
    """Goes into every checkpoint."""
    model: ModelConfig
    train: TrainConfig
    cache: CacheConfig
    word_vectors: NDArray[np.float32] | None
    """One row a word of the vocabulary; None where the model has no fixed half."""
    tracking: Tracking
    run_id: str
    seat: Seat
    """Of the driver that this process works for."""
    bar: Any
    """Actor of `infra.progress.worker_bar`, in steps."""


def train_loop(settings: dict[str, TrainJob]) -> None:
    """Trains from the last checkpoint, or from the start, to the end."""
    job = settings["job"]
    torch.set_num_threads(job.train.cpus_per_worker)  # more threads than cores fight over them
    training = Training(job)
    if (last := ray.train.get_checkpoint()) is not None:
        with last.as_directory() as folder:
            training.state.load(Path(folder))
    training.show()
    with training.system_metrics(), suppress(LeaseLostError):  # the driver says so
        while not training.state.progress.finished(job.train):
            training.run_epoch()


class Training:
    """One process of a training."""

    def __init__(self, job: TrainJob) -> None:
        self.job, self.config = job, job.train
        context = ray.train.get_context()
        self.rank, self.ranks = context.get_world_rank(), context.get_world_size()
        features = FeatureSet.open(job.features)
        train, self.val = splits_on_node(features, self.config, job.cache)
        self.batches = batches_of(train, self.config)
        self.steps_per_epoch = steps_per_epoch(self.batches.steps_per_epoch, self.config)
        torch.manual_seed(self.config.seed)
        shan = SHAN(job.model, Vocabulary.build(train.captions, self.config.min_word_count))
        if job.word_vectors is not None:
            assert isinstance(shan.text_encoder, GruEncoder)
            shan.text_encoder.set_fixed(job.word_vectors)
        self.device = ray.train.torch.get_device()
        self.state = TrainState(shan, self.config, self.device)
        self.objective: nn.Module = ray.train.torch.prepare_model(objective_of(shan, self.config))
        self.unreported: list[Row] = []
        self.preempted = False
        self.window = Window()

    def system_metrics(self) -> AbstractContextManager[None]:
        """One process of each node tells of it, where the server can be reached from there."""
        context, tracking = ray.train.get_context(), self.job.tracking
        if context.get_local_rank() or tracking.is_file:
            return nullcontext()
        return system_metrics(tracking, self.job.run_id, f"node_{context.get_node_rank()}")

    def run_epoch(self) -> None:
        """What is left of the epoch, its validation, and a checkpoint."""
        progress, config = self.state.progress, self.config
        epoch, done = divmod(progress.step, self.steps_per_epoch)
        if progress.step == (progress.validated + 1) * self.steps_per_epoch:  # cut off before it was validated
            epoch, done = progress.validated, self.steps_per_epoch
        self.window = Window()  # validation is no part of the first point's time
        for batches in self._batches_of_steps(epoch, done):
            self._step(batches)
            at_end = progress.step == (epoch + 1) * self.steps_per_epoch
            # The end of an epoch has a checkpoint of its own; who is preempted just then saves again soon after it.
            checkpoint = not at_end and (
                progress.step % config.checkpoint_every_n_steps == 0 or self._newly_preempted()
            )
            if progress.step % config.log_every_n_steps == 0 or at_end or checkpoint:
                self._log(self._summary(self.window))
                self.window = Window()
            if checkpoint:
                self._report({"score": -1.0}, f"step-{progress.step:08d}")
        self._finish_epoch(epoch)

    def show(self, note: str = "") -> None:
        """Moves the bar in the driver; a restart takes it back."""
        if self.rank == 0:
            self.job.bar.update.remote(self.state.progress.step, note)

    def _batches_of_steps(self, epoch: int, done: int) -> Iterator[list[Batch]]:
        """This rank's shares of the batches of every step that is left; waiting for them is counted."""
        share = read_ahead(
            self.batches.batches(epoch, done * self.config.gradient_accumulation_steps, self.rank, self.ranks)
        )
        for _ in range(done, self.steps_per_epoch):
            start = time.perf_counter()
            batches = list(islice(share, self.config.gradient_accumulation_steps))
            self.window.waited_s += time.perf_counter() - start
            yield batches

    def _step(self, batches: list[Batch]) -> None:
        loss, norm = take_step(self.state, self.objective, batches, self.config, self.steps_per_epoch, self.rank)
        self.window.losses.append(loss)
        self.window.norms.append(norm)
        self.window.captions += sum(len(batch.captions) for batch in batches)
        self.show()

    def _newly_preempted(self) -> bool:
        """Whether Ray has said, since this process began, that one of its nodes will be taken away."""
        if self.preempted or self.state.progress.step % PREEMPTION_EVERY:
            return False
        self.preempted = ray.train.get_preemption_info() is not None
        return self.preempted

    def _summary(self, window: "Window") -> dict[str, float]:
        """A point of the curves; every rank takes part. Raises RuntimeError if the loss has left the finite numbers."""
        loss = sum_over_ranks(torch.stack(window.losses).mean()).item() / self.ranks
        if not np.isfinite(loss):
            step = self.state.progress.step
            raise RuntimeError(f"the loss is {loss} at step {step}; lower train.learning_rate or raise warmup_steps")
        seconds = time.perf_counter() - window.began
        return {
            "loss": loss,
            "grad_norm": torch.stack(window.norms).mean().item(),
            "lr": self.state.optimizer.param_groups[0]["lr"],
            "captions_per_s": window.captions * self.ranks / seconds,
            "data_wait_fraction": max_over_ranks(torch.tensor(window.waited_s / seconds, device=self.device)).item(),
            "memory_gb": _peak_memory(self.device) / 1e9,
            "num_workers": self.ranks,
        }

    def _finish_epoch(self, epoch: int) -> None:
        progress = self.state.progress
        scores_NC = _validate(self.state.judged, self.val, self.rank, self.ranks, self.config.precision)
        recalls = retrieval_recalls(scores_NC, self.val.photo_of_caption)
        progress.validated = epoch + 1
        if recalls.rsum > progress.best_rsum:
            progress.best_rsum, progress.best_epoch = recalls.rsum, epoch + 1
        metrics = {f"val_{name}": value for name, value in recalls.as_metrics().items()}
        self._log({**metrics, "epoch": epoch + 1})
        told = {"score": recalls.rsum, "best": progress.best_rsum, "epoch": epoch + 1, **metrics}
        self._report(told, f"epoch-{epoch + 1:03d}", scores_NC)
        self.show(self._note(recalls))

    def _log(self, metrics: dict[str, float]) -> None:
        row = (self.state.progress.step, time.time_ns() // 1_000_000, metrics)
        self.state.progress.history.append(row)
        self.unreported.append(row)

    def _report(self, metrics: dict[str, Any], name: str, scores_NC: "NDArray[np.floating] | None" = None) -> None:
        """Points of the curves reach MLflow with the checkpoint that they lead to, so that none is there twice.

        Rank 0 hands the checkpoint over, which is stored while training goes on; every rank reports, or Ray Train would
        wait for the missing one. Raises LeaseLostError, on every rank, where none of that is theirs to write any more.
        """
        taken = self.rank == 0 and self.job.seat.is_taken()
        if sum_over_ranks(torch.tensor(float(taken), device=self.device)):
            raise LeaseLostError("another process goes on with this training")
        checkpoint = None
        if self.rank == 0:
            folder = tempfile.mkdtemp(prefix="shan-checkpoint-")
            self.state.save(Path(folder), self.job.lineage)
            if scores_NC is not None:
                write_record(Path(folder), validation_record(scores_NC, self.val))
            checkpoint = ray.train.Checkpoint.from_directory(folder)
        ray.train.report(
            {**metrics, "rows": self.unreported},
            checkpoint=checkpoint,
            checkpoint_dir_name=name,
            checkpoint_upload_mode=ray.train.CheckpointUploadMode.ASYNC,
            checkpoint_upload_fn=self._upload,
            delete_local_checkpoint_after_upload=True,
        )
        self.unreported = []

    def _upload(self, checkpoint: ray.train.Checkpoint, name: str) -> ray.train.Checkpoint:
        """Ray Train's own upload. What comes after it, another record and the end of an older checkpoint, would harm a
        process that has taken the training over meanwhile."""
        stored: ray.train.Checkpoint = (
            ray.train.get_context().get_storage().persist_current_checkpoint(checkpoint, name)
        )
        self.job.seat.require()
        return stored

    def _note(self, recalls: Recalls) -> str:
        """What the bar says after an epoch; a loss at 2 x batch x margin means that nothing is learnt any more."""
        progress = self.state.progress
        losses = [metrics["loss"] for _, _, metrics in progress.history if "loss" in metrics]
        note = f"epoch {progress.validated}: loss {losses[-1]:.2f}, validation rSum {recalls.rsum:.1f}"
        if is_collapsed(losses[-1], self.config.batch_size, self.config.margin):
            note += "; collapsed: start again with train.hard_negative_warmup_epochs=1 or more"
        return note


@dataclass
class Window:
    """The steps since the last point of the curves."""

    losses: list[Tensor] = field(default_factory=list)
    norms: list[Tensor] = field(default_factory=list)
    captions: int = 0
    waited_s: float = 0.0
    began: float = field(default_factory=time.perf_counter)


def steps_per_epoch(batches: int, config: TrainConfig) -> int:
    """Whole steps in an epoch of that many batches."""
    return max(1, batches // config.gradient_accumulation_steps)


def _validate(shan: SHAN, val: Split, rank: int, ranks: int, precision: str) -> NDArray[np.floating]:
    """Scores N x C. Every rank scores its share of the photos against all captions; all of them get the whole."""
    edges = np.linspace(0, len(val), ranks + 1).astype(int).tolist()
    rows = slice(edges[rank], edges[rank + 1])
    mine: NDArray[np.floating] = np.empty((0, len(val.captions)), np.float32)
    if rows.stop > rows.start:
        mine = score_matrix(shan, RowRange(val, rows), val.captions, precision=precision)
    shares = [mine] * ranks
    if ranks > 1:
        torch.distributed.all_gather_object(shares, mine)
    return np.concatenate(shares)


def _peak_memory(device: torch.device) -> int:
    """Bytes, of the GPU where there is one, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
