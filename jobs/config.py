"""The config tree of every job: one frozen dataclass a concern, kept beside the code it steers."""

from dataclasses import asdict, dataclass, field
from typing import Any

from infra.cluster import ClusterConfig
from infra.tracking import TrackingConfig
from pipelines.datasets.scenes.config import ScenesConfig
from pipelines.evaluation.promotion_config import PromoteConfig
from pipelines.evaluation.score import ScoreConfig
from pipelines.extraction.config import ExtractConfig
from pipelines.extraction.estimate import EstimateConfig
from pipelines.training.config import TrainConfig
from pipelines.training.setup import TrainingSetup
from pipelines.training.shard_cache import CacheConfig
from pipelines.training.sweeps.config import SweepConfig
from shan_model.config import ModelConfig


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
    cache: CacheConfig = field(default_factory=CacheConfig)
    """Where the nodes keep shards that training reads from object storage."""
    sweep: SweepConfig = field(default_factory=SweepConfig)
    """Many trainings."""
    score: ScoreConfig = field(default_factory=ScoreConfig)
    """How evaluation scores."""
    promote: PromoteConfig = field(default_factory=PromoteConfig)
    """When a challenger becomes champion."""
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
            ("train.num_workers", (self.train.min_workers or self.train.num_workers) * self.train.cpus_per_worker),
            ("extract.detector_actors_max", self.extract.detector_actors_max * self.extract.detector_cpus + 1),
        ):
            if needed > cpus:
                raise ValueError(
                    f"{field_name} needs {needed:g} logical CPUs; set cluster.local_cpus to that, it is {cpus}"
                )

    def training(self) -> TrainingSetup:
        """The sections that a training reads."""
        return TrainingSetup(self.model, self.train, self.cache, self.tracking, self.cluster)

    def flat(self) -> dict[str, Any]:
        """Every field by its dotted name, as it is logged with a run."""
        return {f"{part}.{name}": value for part, fields in asdict(self).items() for name, value in fields.items()}
