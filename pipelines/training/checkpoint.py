"""All that a training is at a step, and its checkpoint: a model bundle, and what training needs to go on from it.

Files beside the bundle: `state.safetensors` (Adam's moments; the raw weights where the bundle holds their average),
`progress.json` (counters and every point of the curves so far) and `lineage.json`.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pipelines.models.package import LINEAGE
from pipelines.training.config import TrainConfig
from shan_model.bundle import WEIGHTS, save_bundle
from shan_model.model import SHAN

STATE, PROGRESS = "state.safetensors", "progress.json"
_MOMENTS = ("exp_avg", "exp_avg_sq")

Row = tuple[int, int, dict[str, float]]
"""A point of the curves: steps finished, milliseconds since 1970, metrics by name."""


@dataclass
class Progress:
    """Where a training stands."""

    step: int = 0
    """Steps of the optimizer that are finished."""
    validated: int = 0
    """Epochs that are finished and validated."""
    best_rsum: float = -1.0
    best_epoch: int = 0
    """Counted from 1."""
    history: list[Row] = field(default_factory=list)

    def validations(self) -> list[tuple[int, float]]:
        """Epoch, counted from 1, and validation rSum of each that is finished."""
        return [(int(told["epoch"]), told["val_rsum"]) for _, _, told in self.history if "epoch" in told]

    def finished(self, config: TrainConfig) -> bool:
        """Whether there is nothing left to train."""
        tired = config.early_stopping_patience and self.validated - self.best_epoch >= config.early_stopping_patience
        return self.validated >= config.epochs or bool(tired)


class TrainState:
    """Model, optimizer, average of the weights, progress. No random state: every step is seeded by its number."""

    def __init__(self, shan: SHAN, config: TrainConfig, device: torch.device) -> None:
        self.shan = shan.to(device)
        self.optimizer = torch.optim.Adam(shan.parameters(), lr=config.learning_rate)
        self.average = (
            AveragedModel(self.shan, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay)) if config.ema_decay else None
        )
        self.progress = Progress()

    @property
    def judged(self) -> SHAN:
        """The model that is validated, kept and registered."""
        return cast(SHAN, self.average.module) if self.average else self.shan

    def save(self, folder: Path, lineage: dict[str, str]) -> None:
        """Writes a checkpoint into a folder."""
        save_bundle(self.judged, folder)
        tensors = {
            f"{moment}.{name}": self.optimizer.state[parameter][moment]
            for name, parameter in self.shan.named_parameters()
            if self.optimizer.state[parameter]  # empty before the first step
            for moment in _MOMENTS
        }
        if self.average:
            tensors |= {f"weights.{name}": tensor for name, tensor in self.shan.state_dict().items()}
            tensors["averaged"] = self.average.n_averaged
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / STATE)
        (folder / PROGRESS).write_text(json.dumps(asdict(self.progress)) + "\n", encoding="utf-8")
        (folder / LINEAGE).write_text(json.dumps(lineage, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Goes on from a checkpoint of a training of the same config."""
        tensors, kept = load_file(folder / STATE), load_file(folder / WEIGHTS)
        weights = {name.removeprefix("weights."): t for name, t in tensors.items() if name.startswith("weights.")}
        self.shan.load_state_dict(weights or kept)
        if self.average:
            self.average.module.load_state_dict(kept)
            self.average.n_averaged.copy_(tensors["averaged"])
        self.progress = read_progress(folder)
        for name, parameter in self.shan.named_parameters():
            if self.progress.step:
                moments = {moment: tensors[f"{moment}.{name}"].to(parameter.device) for moment in _MOMENTS}
                # Adam counts steps per parameter; all of ours take part in every step.
                self.optimizer.state[parameter] = {"step": torch.tensor(float(self.progress.step)), **moments}


def read_progress(folder: Path) -> Progress:
    """Of a checkpoint."""
    return parse_progress(json.loads((folder / PROGRESS).read_text(encoding="utf-8")))


def parse_progress(fields: dict[str, Any]) -> Progress:
    """Of a checkpoint's file, PROGRESS."""
    history = [(int(step), int(time), metrics) for step, time, metrics in fields["history"]]
    return Progress(**{**fields, "history": history})
