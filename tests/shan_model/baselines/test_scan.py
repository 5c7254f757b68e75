"""SCAN in both directions and with both poolings, against its equations as loops."""

import pytest
import torch

from shan_model.baselines.scan import SCAN
from shan_model.config import ModelConfig
from tests.support.alignments import unnormalised_matrices
from tests.support.baseline_oracle import baseline_scores, similarities, t2i_attention


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("pooling", ["mean", "lse"])
@pytest.mark.parametrize("direction", ["t2i", "i2t"])
@pytest.mark.parametrize("factor", [{}, {"scan_lse_factor": 20.0}], ids=["Flickr30K", "COCO"])
def test_scores_equal_the_oracle(factor, direction, pooling, dtype, tolerance):
    fields = {"matcher": f"scan-{direction}", "scan_pooling": pooling, **factor}
    matcher = SCAN(ModelConfig(**fields))
    regions = unnormalised_matrices([36, 1, 100, 2, 36, 7], dtype)
    words = unnormalised_matrices([12, 1, 3, 12, 40], dtype, seed=2)
    found = matcher(regions, words)
    assert found.dtype == dtype
    expected = baseline_scores(fields, regions, words)
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("direction", ["t2i", "i2t"])
def test_word_attention_sums_to_one_over_the_regions(direction):
    matcher = SCAN(ModelConfig(matcher=f"scan-{direction}"))
    regions = torch.stack(unnormalised_matrices([5, 5, 5])).detach()
    (words,) = unnormalised_matrices([4], seed=2)
    attention = matcher.word_attention(regions, words.detach())
    assert attention.shape == (3, 5, 4)
    torch.testing.assert_close(attention.sum(dim=1), torch.ones(3, 4, dtype=torch.float64))
    cosines = torch.tensor([similarities(v, words.detach().numpy()) for v in regions.numpy()])
    if direction == "i2t":  # a word looks most at what is most similar
        assert torch.equal(attention.argmax(dim=1), cosines.relu().argmax(dim=1))
    else:
        expected = torch.tensor([t2i_attention(s, lambda1=9) for s in cosines.tolist()], dtype=torch.float64)
        torch.testing.assert_close(attention.transpose(1, 2), expected)
