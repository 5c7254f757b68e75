"""Builds a small search index in today's format, and its model: `python -m tests.support.stored_index FOLDER`.

tests/fixtures/0.2/search_index was written by it. Later versions must read that copy, so it is never replaced.
"""

import json
import sys
from pathlib import Path

import torch

from infra.canonical_json import canonical_json
from pipelines.features.feature_set import FeatureSet
from pipelines.models.load import LoadedModel, load_model
from pipelines.search.config import IndexConfig
from shan_model.config import ModelConfig
from shan_model.model import SHAN
from shan_model.vocabulary import Vocabulary
from tests.support import ROOT, stored_feature_set
from tests.support.indexes import build_here
from tests.support.small_models import write_checkpoint

FIXTURE = ROOT / "tests" / "fixtures" / "0.2" / "search_index"
CONFIG = IndexConfig(photos_per_partition=2, candidate_search="ivf", num_lists=2)
LOCATIONS = ("models:/tiny/1", "s3://bucket/features/tiny@2ad99af052c7", "s3://bucket/photos")
"""URIs of the model, the feature set and the photos that the index records instead of paths of this machine."""


def stored_model() -> LoadedModel:
    """Loads the model of the stored index."""
    return load_model(None, str(FIXTURE / "model"))


def write_model(folder: Path) -> None:
    """Writes an untrained SHAN for the feature set in tests/fixtures."""
    features = FeatureSet.open(str(stored_feature_set.FIXTURE))
    torch.manual_seed(0)
    config = ModelConfig(region_dim=stored_feature_set.DETECTOR.feature_dim, joint_dim=4, word_dim=4)
    captions = [caption for photo in stored_feature_set.PHOTOS for caption in photo.captions]
    write_checkpoint(folder, SHAN(config, Vocabulary.build(captions)).eval(), features)


def write_index(model: LoadedModel, folder: Path) -> None:
    """Writes the index of that feature set by a model."""
    features = FeatureSet.open(str(stored_feature_set.FIXTURE))
    build = build_here(model, [features], folder.parent, CONFIG)
    Path(build.store.uri).rename(folder)
    for name in ("index.json", f"snapshot-{build.document.index[:12]}.json"):
        document = json.loads((folder / name).read_text())
        document["model"]["uri"], document["features"][0]["uri"], document["features"][0]["photo_root"] = LOCATIONS
        (folder / name).write_bytes(canonical_json(document))


if __name__ == "__main__":
    write_model(Path(sys.argv[1], "model"))
    write_index(load_model(None, str(Path(sys.argv[1], "model"))), Path(sys.argv[1], "index"))
