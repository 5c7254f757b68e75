"""Parts of the training loop. `tests/e2e` and `tests/faults` run it in Ray Train workers."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.training.config import TrainConfig
from pipelines.training.worker import _validate, steps_per_epoch
from shan_model.config import ModelConfig
from shan_model.model import SHAN
from shan_model.scoring import score_matrix
from shan_model.vocabulary import Vocabulary
from tests.support import feature_sets


@pytest.mark.parametrize(("batches", "accumulated", "steps"), [(7, 1, 7), (7, 3, 2), (2, 3, 1)])
def test_steps_of_an_epoch(batches: int, accumulated: int, steps: int):
    assert steps_per_epoch(batches, TrainConfig(gradient_accumulation_steps=accumulated)) == steps


def test_validation_scores_every_photo_with_every_caption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Two ranks score a half each."""
    val = feature_sets.write_set(tmp_path, feature_sets.manifest(tmp_path, 30)).split("val")
    torch.manual_seed(0)
    model = ModelConfig(region_dim=feature_sets.FEATURE_DIM, joint_dim=8, word_dim=4)
    shan = SHAN(model, Vocabulary.build(val.captions)).eval()
    expected = score_matrix(shan, val, val.captions)
    np.testing.assert_allclose(_validate(shan, val, 0, 1, "fp32"), expected, rtol=1e-5)
    parts = []
    monkeypatch.setattr("torch.distributed.all_gather_object", lambda _, own: parts.append(own))
    for rank in range(2):
        _validate(shan, val, rank, 2, "fp32")
    np.testing.assert_allclose(np.concatenate(parts), expected, rtol=1e-5)
