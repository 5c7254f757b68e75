"""The config sections that a training reads."""

from dataclasses import asdict, dataclass, field, replace
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

    def ignored_options(self) -> list[str]:
        """Returns a sentence for each field that is set but has no effect together with the others."""
        ignored = self.train.ignored_options()
        if self.model.text_encoder == "hf" and self.train.min_word_count != TrainConfig.min_word_count:
            ignored.append(
                f"train.min_word_count is {self.train.min_word_count}, but has no effect with model.text_encoder=hf, "
                "which has a vocabulary of its own"
            )
        return ignored
