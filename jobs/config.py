"""The config tree of all commands: one frozen dataclass for each section, defined beside the code that reads it."""

import math
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from typing import Any

from infra.cluster import ClusterConfig
from infra.tracking import TrackingConfig
from pipelines.datasets.scenes.config import ScenesConfig
from pipelines.evaluation.promotion_config import PromoteConfig
from pipelines.evaluation.score_config import ScoreConfig
from pipelines.extraction.config import CUT_CPUS, TASK_CPUS, ExtractConfig
from pipelines.extraction.estimate_config import EstimateConfig
from pipelines.models.config import RegisterConfig
from pipelines.search.config import IndexConfig
from pipelines.service.config import ServiceConfig
from pipelines.training.config import TrainConfig
from pipelines.training.setup import TrainingSetup
from pipelines.training.shard_cache import CacheConfig
from pipelines.training.sweeps.config import SweepConfig
from shan_model.config import ModelConfig


@dataclass(frozen=True)
class Config:
    """Every section. A command offers those that it reads; presets and `--config` files are YAML of some of them."""

    scenes: ScenesConfig = field(default_factory=ScenesConfig)
    """Rendered scenes, the quickstart's data set if none is given."""
    extract: ExtractConfig = field(default_factory=ExtractConfig)
    """Extraction of region features from photos."""
    estimate: EstimateConfig = field(default_factory=EstimateConfig)
    """The cluster for which `jobs.extract --plan` estimates time and cost."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The network's architecture."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """Optimization, data loading and checkpoints of a training."""
    cache: CacheConfig = field(default_factory=CacheConfig)
    """Local shard cache of each node of a training."""
    sweep: SweepConfig = field(default_factory=SweepConfig)
    """Trials of a hyperparameter sweep and their early stopping."""
    score: ScoreConfig = field(default_factory=ScoreConfig)
    """Scoring of all pairs in an evaluation."""
    promote: PromoteConfig = field(default_factory=PromoteConfig)
    """The criterion by which a challenger becomes champion."""
    index: IndexConfig = field(default_factory=IndexConfig)
    """Encoding of photos and captions into a search index."""
    service: ServiceConfig = field(default_factory=ServiceConfig)
    """The search service."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    """MLflow tracking store and registry."""
    register: RegisterConfig = field(default_factory=RegisterConfig)
    """Content of a registered version."""
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    """Ray cluster."""

    def check_cpus(self, sections: Collection[str]) -> None:
        """Raises ValueError if a local cluster has fewer CPUs than one of these sections needs.

        A command checks the sections that it reads, before it starts Ray or does any work.
        """
        if not self.cluster.is_local:
            return
        cpus = self.cluster.local_cpus
        extract = self.extract
        # While detectors run, extraction needs one more CPU to fetch images and commit shards, and some to start.
        starting = extract.min_detector_actors * extract.detector_cpus + 2 * TASK_CPUS + CUT_CPUS
        for field_name, needed in (
            ("train.num_workers", (self.train.min_workers or self.train.num_workers) * self.train.cpus_per_worker),
            ("extract.min_detector_actors", starting),
            ("extract.max_detector_actors", extract.max_detector_actors * extract.detector_cpus + 2 * TASK_CPUS),
            ("index.num_actors", self.index.num_actors * self.index.actor_cpus),
        ):
            if needed > cpus and field_name.partition(".")[0] in sections:
                raise ValueError(
                    f"{field_name} needs {needed:g} logical CPUs, but cluster.local_cpus is {cpus}; set "
                    f"cluster.local_cpus to {math.ceil(needed)}"
                )

    def training(self) -> TrainingSetup:
        """Returns the sections that a training reads."""
        return TrainingSetup(self.model, self.train, self.cache, self.tracking, self.register, self.cluster)

    def flat(self) -> dict[str, Any]:
        """Returns every field by its dotted name."""
        return {f"{part}.{name}": value for part, fields in asdict(self).items() for name, value in fields.items()}
