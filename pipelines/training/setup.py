"""The config sections that a training reads."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from infra.cluster import ClusterConfig
from infra.paths import absolute, is_dir
from infra.redaction import redact
from infra.tracking import TrackingConfig
from pipelines.models.config import RegisterConfig
from pipelines.training.config import TrainConfig
from pipelines.training.shard_cache import CacheConfig
from shan_model.config import ModelConfig

FILE_FIELDS = ("model.hf_model", "train.word_vectors")
"""Fields whose values are paths. `model.hf_model` may also be the name of a model on the hub, which stays a name."""


def located(field: str, value: Any) -> Any:
    """Returns the absolute path of the file or folder that a dotted field names, because workers run elsewhere.

    Other values stay as they are: those of other fields, and names on the hub.
    """
    if field not in FILE_FIELDS or not value or not isinstance(value, str):
        return value
    path = absolute(value, field)
    return value if field == "model.hf_model" and not is_dir(Path(path)) else path


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
        """Makes the folder of `model.hf_model` absolute; the section itself knows no paths."""
        hf_model = located("model.hf_model", self.model.hf_model)
        object.__setattr__(self, "model", replace(self.model, hf_model=hf_model))

    def flat(self) -> dict[str, Any]:
        """Returns every field by its dotted name, as it is logged to MLflow."""
        return {f"{part}.{name}": value for part, fields in asdict(self).items() for name, value in fields.items()}

    def redacted(self) -> "TrainingSetup":
        """Returns the setup without credentials."""
        return replace(self, tracking=replace(self.tracking, uri=redact(self.tracking.uri)))
