"""The config tree of every job: one frozen dataclass a concern, kept beside the code it steers."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from infra.cluster import ClusterConfig
from infra.tracking import TrackingConfig
from jobs.score import ScoreConfig
from pipelines.estimate import EstimateConfig
from pipelines.extract_config import ExtractConfig
from pipelines.scenes.config import ScenesConfig
from shan_model.config import ModelConfig


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained. Defaults are the paper's, or our decision where it is silent [D]."""

    epochs: int = 30
    """Passes over all captions of the train split."""
    batch_size: int = 128
    """Captions of one step over all workers; negatives are found among each worker's share [D]."""
    workers: int = 2
    """Training processes (torch DDP), each with one logical CPU."""
    learning_rate: float = 2e-4
    """Adam's step size [D]."""
    decay_after: int = 15
    """Epochs before the learning rate falls to a tenth, once [D]."""
    margin: float = 0.2
    """m of Eq. 17."""
    warmup_epochs: int = 0
    """First epochs on the mean of all violations; from scratch, hardest negatives can collapse. 0 is the paper."""
    clip_norm: float = 2.0
    """Largest global norm of a gradient [D]."""
    min_word_count: int = 1
    """Words of the training captions seen less often become `<unk>`."""
    seed: int = 0
    """Seeds the weights and the order of the batches."""
    output: str = "build/runs"
    """Folder (or shared storage) where Ray Train keeps a run's checkpoints."""

    def __post_init__(self) -> None:
        """Raises ValueError naming the field and the fix."""
        for name in ("epochs", "workers", "min_word_count"):
            if getattr(self, name) < 1:
                raise ValueError(f"train.{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("learning_rate", "margin", "clip_norm"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"train.{name} is {getattr(self, name)}; it must be positive")
        for name in ("decay_after", "warmup_epochs", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"train.{name} is {getattr(self, name)}; it must not be negative")
        if self.batch_size < 2 * self.workers or self.batch_size % self.workers:
            raise ValueError(
                f"train.batch_size is {self.batch_size} for {self.workers} workers; "
                "it must be a multiple of train.workers and leave each at least 2 captions"
            )


@dataclass(frozen=True)
class Config:
    """The whole tree. Presets are YAML files of parts of it; any field can be set on the command line."""

    scenes: ScenesConfig = field(default_factory=ScenesConfig)
    """The rendered scenes that the quickstart trains on when it is given no data set."""
    extract: ExtractConfig = field(default_factory=ExtractConfig)
    """Photos to region features."""
    estimate: EstimateConfig = field(default_factory=EstimateConfig)
    """The cluster that `jobs.extract --plan` estimates for."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The network."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """Its training."""
    score: ScoreConfig = field(default_factory=ScoreConfig)
    """How evaluation scores."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """MLflow."""
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    """Ray."""

    def __post_init__(self) -> None:
        """Raises ValueError where a local cluster could never start what the other fields ask for: it would wait."""
        if not self.cluster.is_local:
            return
        cpus = self.cluster.local_cpus
        # Extraction also fetches and commits while it detects.
        for field_name, needed in (
            ("train.workers", self.train.workers),
            ("extract.detector_actors_max", self.extract.detector_actors_max * self.extract.detector_cpus + 1),
        ):
            if needed > cpus:
                raise ValueError(
                    f"{field_name} needs {needed:g} logical CPUs; set cluster.local_cpus to that, it is {cpus}"
                )

    def flat(self) -> dict[str, Any]:
        """Every field by its dotted name, as it is logged with a run."""
        return {f"{part}.{name}": value for part, fields in asdict(self).items() for name, value in fields.items()}
