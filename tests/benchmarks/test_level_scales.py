"""Levels of a trained model with other scales."""

from pathlib import Path

import numpy as np
import pytest

from shan_model.blocks import RowRange
from shan_model.config import ModelConfig
from shan_model.metrics import retrieval_recalls
from shan_model.model import SHAN
from shan_model.scoring import score_matrix
from shan_model.vocabulary import Vocabulary
from tests.benchmarks.level_scales import level_matrices, rsums, table
from tests.support import feature_sets


@pytest.mark.parametrize("levels", ["l2l", "l2l+g2l+g2g"])
def test_scales_combine_to_the_scores_of_a_model(levels: str, tmp_path: Path):
    features = feature_sets.write_set(tmp_path, feature_sets.manifest(tmp_path, 25))
    split = features.split("train").captioned()
    config = ModelConfig(region_dim=feature_sets.FEATURE_DIM, joint_dim=8, word_dim=8, g2l_scale=0.3)
    shan = SHAN(config, Vocabulary.build(split.captions, 1)).eval()
    l2l, g2l, g2g = level_matrices(shan, split)

    scales = (0.3, 1.0) if levels == "l2l+g2l+g2g" else (0.0, 0.0)
    other = SHAN(ModelConfig(**vars(config) | {"levels": levels}), shan.vocabulary).eval()
    other.load_state_dict(shan.state_dict(), strict=False)
    expected = score_matrix(other, RowRange(split, slice(0, len(split))), split.captions)
    np.testing.assert_allclose(l2l + scales[0] * g2l + scales[1] * g2g, expected, rtol=0, atol=2e-5)
    found = rsums(shan, split, scales)
    assert found[0, 1, 0] == pytest.approx(retrieval_recalls(expected, split.photo_of_caption).rsum)
    assert found[0, 1, 1:].mean() == pytest.approx(found[0, 1, 0], abs=10)  # of resamples of its photos


def test_intervals_are_of_the_difference_to_the_trained_model():
    found = np.tile(np.array([50.0, 40.0, 60.0]), (4, 4, 1))
    found[0, 0] += [9.0, 8.0, 10.0]
    rows = table("", found).rows  # quantiles of two values lie between them
    assert rows[0][:3] == ["G2L x 0", "59.0 (+8.1 to +9.9)", "50.0"]
