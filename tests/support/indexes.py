"""Search indexes of small feature sets, encoded in this process instead of on Ray."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from infra.cluster import ClusterConfig
from infra.storage.open import open_store
from pipelines.features.feature_set import FeatureSet
from pipelines.models.load import LoadedModel, load_model
from pipelines.search.config import IndexConfig
from pipelines.search.index_build import IndexBuild, build_index
from pipelines.search.index_plan import PartitionTask, index_name, plan_partitions
from pipelines.search.partition_writer import write_partition
from shan_model.config import ModelConfig
from shan_model.model import SHAN
from shan_model.vocabulary import Vocabulary
from tests.support.feature_sets import FEATURE_DIM
from tests.support.small_models import write_checkpoint

SMALL = IndexConfig(photos_per_partition=8)


def network(features: FeatureSet, seed: int = 0, **fields: object) -> SHAN:
    """Returns an untrained SHAN that knows the words of the validation captions."""
    torch.manual_seed(seed)
    config = ModelConfig(region_dim=FEATURE_DIM, joint_dim=16, word_dim=12, **fields)  # type: ignore[arg-type]
    return SHAN(config, Vocabulary.build(features.split("val").captions)).eval()


def loaded(folder: Path, features: FeatureSet, seed: int = 0, **fields: object) -> LoadedModel:
    """Writes an untrained model as a checkpoint and loads it."""
    return load_model(None, write_checkpoint(folder, network(features, seed, **fields), features))


def tasks(feature_sets: Sequence[FeatureSet], config: IndexConfig = SMALL) -> list[PartitionTask]:
    """Returns the partitions of both galleries."""
    size = config.photos_per_partition
    return [task for gallery in config.wanted for task in plan_partitions(feature_sets, gallery, size)]


def build_here(
    model: LoadedModel, feature_sets: Sequence[FeatureSet], root: Path, config: IndexConfig = SMALL
) -> IndexBuild:
    """Builds an index without Ray: its partitions are written first, and the build finds them complete."""
    config = replace(config, output=str(root))
    store = open_store(f"{root}/{index_name(model, feature_sets, config)}")
    for task in tasks(feature_sets, config):
        write_partition(store, task, feature_sets[task.feature_set].store, model.shan, config.vector_type)
    return build_index(model, feature_sets, config, ClusterConfig())


def contents(folder: Path) -> dict[str, bytes]:
    """Returns the bytes of every file of a folder by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}
