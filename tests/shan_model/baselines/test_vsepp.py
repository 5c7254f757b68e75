"""VSE++ against its equation as loops."""

import pytest
import torch

from shan_model.baselines.vsepp import VSEPP
from tests.support.alignments import unnormalised_matrices
from tests.support.baseline_oracle import baseline_scores


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_scores_equal_the_oracle(dtype, tolerance):
    regions = unnormalised_matrices([36, 1, 100, 2, 36, 7], dtype)
    words = unnormalised_matrices([12, 1, 3, 12, 40], dtype, seed=2)
    found = VSEPP()(regions, words)
    assert found.dtype == dtype
    expected = baseline_scores({"matcher": "vse++"}, regions, words)
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)


def test_every_word_attends_to_all_regions_equally():
    regions, (words,) = torch.stack(unnormalised_matrices([5, 5, 5])), unnormalised_matrices([4], seed=2)
    attention = VSEPP().word_attention(regions, words)
    assert attention.shape == (3, 5, 4)
    assert (attention == 1 / 5).all()
