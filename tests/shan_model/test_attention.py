"""Attention without attended vectors, against its definition with them."""

import pytest
import torch
from torch.nn.functional import cosine_similarity

from shan_model.attention import attend


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("subscripts", [("a", "b", "ab"), ("a", "b", "ba"), ("p", "p", "p")])
def test_attention_equals_its_definition(subscripts: tuple[str, str, str], dtype: torch.dtype):
    query, key, pair = subscripts
    torch.manual_seed(0)
    queries, keys = torch.randn(3, 4, 8, dtype=dtype), torch.randn(3 if pair == "p" else 2, 5, 8, dtype=dtype)
    values = torch.randn(keys.shape[:2], dtype=dtype)
    dots = torch.einsum(f"{query}nd,{key}md->{pair}nm", queries, keys)
    logits = 3 * dots
    found = attend(queries.norm(dim=-1), keys @ keys.mT, values, logits, dots, subscripts)
    weights = logits.softmax(dim=-1)
    attended = torch.einsum(f"{pair}nm,{key}md->{pair}nd", weights, keys)
    of_pairs = torch.einsum(f"{query}nd,{key}->{pair}nd", queries, torch.ones(len(keys), dtype=dtype))
    torch.testing.assert_close(found.weights, weights)
    torch.testing.assert_close(found.cosines, cosine_similarity(of_pairs, attended, dim=-1))
    torch.testing.assert_close(found.sums, torch.einsum(f"{pair}nm,{key}m->{pair}n", weights, values))


def test_the_cosine_with_a_zero_vector_is_zero():
    found = attend(
        torch.ones(1, 1), torch.zeros(1, 2, 2), torch.ones(1, 2), torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 1, 2),
        ("a", "b", "ab"),
    )  # fmt: skip
    assert found.cosines.tolist() == [[[0.0]]]
    assert found.sums.tolist() == [[[1.0]]]
