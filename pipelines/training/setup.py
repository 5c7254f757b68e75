"""The config sections that a training reads."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from infra.cluster import ClusterConfig
from infra.paths import absolute
from infra.redaction import redact
from infra.tracking import TrackingConfig
from pipelines.models.config import RegisterConfig
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
    register: RegisterConfig = field(default_factory=RegisterConfig)
    """The registered version."""
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    """Ray."""

    def __post_init__(self) -> None:
        """Makes the folder of `model.hf_model` absolute, because workers run elsewhere. A name on the hub stays."""
        if self.model.hf_model:
            path = absolute(self.model.hf_model, "model.hf_model")
            if Path(path).is_dir():
                object.__setattr__(self, "model", replace(self.model, hf_model=path))

    def flat(self) -> dict[str, Any]:
        """Returns every field by its dotted name, as it is logged to MLflow."""
        return {f"{part}.{name}": value for part, fields in asdict(self).items() for name, value in fields.items()}

    def redacted(self) -> "TrainingSetup":
        """Returns the setup without credentials."""
        return replace(self, tracking=replace(self.tracking, uri=redact(self.tracking.uri)))
