"""Validation scores."""

from pathlib import Path

import numpy as np
import torch

from pipelines.training.validation import validation_scores
from shan_model.config import ModelConfig
from shan_model.model import SHAN
from shan_model.scoring import score_matrix
from shan_model.vocabulary import Vocabulary
from tests.support import feature_sets


def test_validation_scores_every_photo_with_every_caption(tmp_path: Path):
    """Of two ranks, each scores a half."""
    val = feature_sets.write_set(tmp_path, feature_sets.manifest(tmp_path, 30)).split("val")
    torch.manual_seed(0)
    model = ModelConfig(region_dim=feature_sets.FEATURE_DIM, joint_dim=8, word_dim=4)
    shan = SHAN(model, Vocabulary.build(val.captions)).eval()
    expected = score_matrix(shan, val, val.captions)
    np.testing.assert_allclose(validation_scores(shan, val, 0, 1, "fp32"), expected, rtol=1e-5)
    parts = [validation_scores(shan, val, rank, 2, "fp32") for rank in range(2)]  # without a process group: no gather
    np.testing.assert_allclose(np.concatenate(parts), expected, rtol=1e-5)
