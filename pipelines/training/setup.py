"""The config sections that a training reads."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from infra.cluster import ClusterConfig
from infra.redaction import redact
from infra.tracking import TrackingConfig
from pipelines.training.config import TrainConfig
from pipelines.training.shard_cache import CacheConfig
from shan_model.config import ModelConfig


@dataclass(frozen=True)
class TrainingSetup:
    """All configuration of a training. Its MLflow run logs these sections and no others."""

    model: ModelConfig = field(default_factory=ModelConfig)
    """The network."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """Optimization, data loading and checkpoints."""
    cache: CacheConfig = field(default_factory=CacheConfig)
    """Local shard cache of each node."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """MLflow."""
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    """Ray."""

    def flat(self) -> dict[str, Any]:
        """Returns every field by its dotted name, as it is logged to MLflow."""
        return {f"{part}.{name}": value for part, fields in asdict(self).items() for name, value in fields.items()}

    def redacted(self) -> "TrainingSetup":
        """Returns the setup without credentials."""
        return replace(self, tracking=replace(self.tracking, uri=redact(self.tracking.uri)))

    def with_absolute_paths(self) -> "TrainingSetup":
        """Returns the setup with paths of files and folders that mean the same in every working directory."""
        train, model = self.train, self.model
        if "://" not in train.output:
            train = replace(train, output=str(Path(train.output).absolute()))
        if train.word_vectors:
            train = replace(train, word_vectors=str(Path(train.word_vectors).absolute()))
        if model.hf_model and Path(model.hf_model).is_dir():
            model = replace(model, hf_model=str(Path(model.hf_model).absolute()))
        return replace(self, train=train, model=model)
