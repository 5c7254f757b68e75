"""State of a training and the format of its checkpoints.

A checkpoint is a folder `step-<8 digits>-lease-<6 digits>` within an epoch or `epoch-<3 digits>-lease-<6 digits>` after
one. The fencing token of the lease is part of the name, so that a stalled driver cannot write into a checkpoint of the
driver that resumed its run. A checkpoint holds

- a model bundle (`shan_model.bundle`) of the evaluation model, and `lineage.json`;
- `state.safetensors`: Adam's moments `<moment>.<parameter>`, and with an EMA the raw weights `weights.<name>` and the
  number of averaged steps `averaged`;
- `progress.json`: format, counters and all metrics so far;
- `validation.json`, after an epoch: the validation report.

No random state is stored, because every step is seeded by its number.
"""

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from infra.errors import UserError
from pipelines.models.package import LINEAGE
from pipelines.training.config import TrainConfig
from pipelines.training.optimizer import optimizer_of
from shan_model.bundle import WEIGHTS, save_bundle
from shan_model.finite import NotFiniteError, require_finite_weights
from shan_model.model import SHAN

FORMAT = "shan-checkpoint/1"
STATE, PROGRESS, VALIDATION = "state.safetensors", "progress.json", "validation.json"
ON_PLATEAU = "on_plateau"
"""Metric of a validation: 1 on the plateau of equal scores, else 0."""
_MOMENTS = ("exp_avg", "exp_avg_sq")

MetricRow = tuple[int, int, dict[str, float]]
"""Finished steps, milliseconds since 1970, and metrics by name."""


CHECKPOINT_NAME = re.compile(r"(?:step-\d{8,}|epoch-\d{3,})-lease-\d{6,}")
"""What `step_checkpoint` and `epoch_checkpoint` return."""


def step_checkpoint(step: int, token: int) -> str:
    """Returns the name of the checkpoint after a step within an epoch, by the driver with that fencing token."""
    return f"step-{step:08d}-lease-{token:06d}"


def epoch_checkpoint(epoch: int, token: int) -> str:
    """Returns the name of the checkpoint after an epoch, counted from 1, by the driver with that fencing token."""
    return f"epoch-{epoch:03d}-lease-{token:06d}"


@dataclass
class TrainingProgress:
    """Counters and metrics of a training."""

    step: int = 0
    """Finished optimizer steps."""
    validated: int = 0
    """Finished and validated epochs."""
    best_rsum: float = -1.0
    """Best validation rSum."""
    best_epoch: int = 0
    """Epoch of `best_rsum`, counted from 1."""
    history: list[MetricRow] = field(default_factory=list)
    """All metrics that were logged, in order."""

    def validations(self) -> list[tuple[int, float]]:
        """Returns the epoch, counted from 1, and the validation rSum of each validated epoch."""
        return [(int(metrics["epoch"]), metrics["val_rsum"]) for _, _, metrics in self.history if "epoch" in metrics]

    def require_fits(self, steps_per_epoch: int, source: str) -> None:
        """Raises UserError, which names `source`, unless a training with that many steps per epoch can be there."""
        first, last = self.validated * steps_per_epoch, (self.validated + 1) * steps_per_epoch
        if not first <= self.step <= last:
            raise _corrupt(source, f"step is {self.step}, but after epoch {self.validated} it is {first} to {last}")

    def is_on_plateau(self) -> bool:
        """Returns whether the last validation was on the plateau of equal scores."""
        last = next((metrics for _, _, metrics in reversed(self.history) if "epoch" in metrics), {})
        return last.get(ON_PLATEAU) == 1

    def is_finished(self, config: TrainConfig) -> bool:
        """Returns whether all epochs are done, or early stopping applies."""
        without_improvement = self.validated - self.best_epoch
        return self.validated >= config.epochs or 0 < config.early_stopping_patience <= without_improvement


class TrainState:
    """Model, optimizer, moving average of the weights, and progress."""

    def __init__(self, shan: SHAN, config: TrainConfig, device: torch.device) -> None:
        self.shan = shan.to(device)
        self.optimizer = optimizer_of(shan, config)
        self.average = (
            AveragedModel(self.shan, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay)) if config.ema_decay else None
        )
        self.progress = TrainingProgress()

    @property
    def evaluation_model(self) -> SHAN:
        """The model that is validated, stored and registered: the moving average if there is one."""
        return cast(SHAN, self.average.module) if self.average else self.shan

    def save(self, folder: Path, lineage: dict[str, str]) -> None:
        """Writes a checkpoint into a folder. `lineage` names the feature set and the run that it comes from.

        Raises UserError, and writes nothing, for a state with a number that is not finite: no training can resume it.
        """
        tensors = {
            f"{moment}.{name}": self.optimizer.state[parameter][moment]
            for name, parameter in self.shan.named_parameters()
            if self.optimizer.state[parameter]  # empty before the first step
            for moment in _MOMENTS
        }
        if self.average:
            tensors |= {f"weights.{name}": tensor for name, tensor in self.shan.state_dict().items()}
            tensors["averaged"] = self.average.n_averaged
        try:
            require_finite_weights(tensors)
            save_bundle(self.evaluation_model, folder)
        except NotFiniteError as error:
            raise UserError(
                f"after step {self.progress.step}, {error}; start another training with a lower train.learning_rate"
            ) from error
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / STATE)
        progress = {"format": FORMAT, **asdict(self.progress)}
        (folder / PROGRESS).write_text(json.dumps(progress) + "\n", encoding="utf-8")
        (folder / LINEAGE).write_text(json.dumps(lineage, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    def load(self, folder: Path, source: str = "") -> None:
        """Restores the state from a checkpoint of the same configuration; `folder` may be a copy of `source`.

        Raises UserError for an unknown format, a corrupt file and numbers that are not finite.
        """
        self.progress = read_progress(folder)
        try:
            tensors, evaluated = load_file(folder / STATE), load_file(folder / WEIGHTS)
            require_finite_weights(tensors | evaluated)
            self._restore(tensors, evaluated)
        except (SafetensorError, NotFiniteError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"{source or folder}: this checkpoint cannot be resumed ({reason}); delete the run directory to train "
                "again"
            ) from error

    def _restore(self, tensors: dict[str, torch.Tensor], evaluated: dict[str, torch.Tensor]) -> None:
        """Takes the tensors of STATE and of WEIGHTS. Raises KeyError for a missing one."""
        weights = {name.removeprefix("weights."): t for name, t in tensors.items() if name.startswith("weights.")}
        self.shan.load_state_dict(weights or evaluated)
        if self.average:
            self.average.module.load_state_dict(evaluated)
            self.average.n_averaged.copy_(tensors["averaged"])
        for name, parameter in self.shan.named_parameters():
            if self.progress.step and parameter.requires_grad:
                moments = {moment: tensors[f"{moment}.{name}"].to(parameter.device) for moment in _MOMENTS}
                # Adam counts steps per parameter; here every parameter that it has takes part in every step.
                self.optimizer.state[parameter] = {"step": torch.tensor(float(self.progress.step)), **moments}


def read_progress(folder: Path) -> TrainingProgress:
    """Returns the progress of a checkpoint. Raises UserError for an unknown format and a corrupt file."""
    path = folder / PROGRESS
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        document = None
    return parse_progress(document, str(path))


def parse_progress(document: Any, source: str) -> TrainingProgress:
    """Returns the progress of the document in PROGRESS.

    Raises UserError, which names `source`, for an unknown format, and for fields that no training writes.
    """
    fields: dict[str, Any] = dict(document) if isinstance(document, dict) else {"format": FORMAT}
    if (found := fields.pop("format", None)) != FORMAT:
        raise UserError(
            f"{source}: format is {found!r}, but this release reads {FORMAT!r}; use the release that wrote it, or "
            "another train.output"
        )
    try:
        return _progress_of(fields)
    except (TypeError, ValueError, OverflowError) as error:
        raise _corrupt(source, error) from error


def _corrupt(source: str, reason: object) -> UserError:
    return UserError(f"{source} is corrupt ({reason}); delete the run directory to train again")


def _progress_of(fields: dict[str, Any]) -> TrainingProgress:
    """Raises ValueError or TypeError for a missing or unknown field, and for a value that no training writes."""
    if missing := [name for name in asdict(TrainingProgress()) if name not in fields]:
        raise ValueError(f"{missing[0]} is missing")
    history = [(int(step), int(time), metrics) for step, time, metrics in fields["history"]]
    progress = TrainingProgress(**fields | {"history": history})
    for name in ("step", "validated", "best_epoch"):
        value = getattr(progress, name)
        if type(value) is not int or value < 0:
            raise ValueError(f"{name} is {value!r}")
    for _, _, metrics in history:
        if not isinstance(metrics, dict) or not all(isinstance(number, int | float) for number in metrics.values()):
            raise TypeError(f"history contains {metrics}")
        if "epoch" in metrics and "val_rsum" not in metrics:
            raise ValueError(f"epoch {metrics['epoch']} in history has no val_rsum")
    _require_best(progress)
    return progress


def _require_best(progress: TrainingProgress) -> None:
    """Raises ValueError unless the history contains every validated epoch, and the best one of them is recorded."""
    scores = dict(progress.validations())
    if list(scores) != list(range(1, progress.validated + 1)):
        raise ValueError(f"validated is {progress.validated}, but history contains the epochs {list(scores)}")
    best = max(scores, key=lambda epoch: scores[epoch], default=0)
    found, expected = (progress.best_epoch, progress.best_rsum), (best, scores.get(best, -1.0))
    if found != expected:
        raise ValueError(f"the best epoch and rSum are {found}, but {expected} in history")


def write_validation(folder: Path, report: dict[str, Any]) -> None:
    """Adds a validation report to a checkpoint."""
    (folder / VALIDATION).write_text(json.dumps(report) + "\n", encoding="utf-8")


def read_validation(folder: Path) -> dict[str, Any]:
    """Returns the validation report of an epoch's checkpoint."""
    report = json.loads((folder / VALIDATION).read_text(encoding="utf-8"))
    assert isinstance(report, dict)
    return report
