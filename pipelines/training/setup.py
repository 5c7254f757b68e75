"""The config sections that a training reads."""

from dataclasses import asdict, dataclass, field
from typing import Any

from infra.cluster import ClusterConfig
from infra.tracking import TrackingConfig
from pipelines.training.config import TrainConfig
from pipelines.training.shard_cache import CacheConfig
from shan_model.config import ModelConfig


@dataclass(frozen=True)
class TrainingSetup:
    """Everything a training is configured by. Logged with its run; nothing else is."""

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
        """Every field by its dotted name, as logged to MLflow."""
        return {f"{part}.{name}": value for part, fields in asdict(self).items() for name, value in fields.items()}
