"""Gate, fuse and pool against Eq. 8 and 9 as loops over the pairs and their vectors."""

import pytest
import torch

from shan_model import gate_fuse_pool as module
from shan_model.gate_fuse_pool import gate_fuse_pool

QUERIES, KEYS, VECTORS, KEY_VECTORS, WIDTH = 3, 4, 5, 2, 6


def pairs_of(query_axis):
    """Returns the shape of the pairs, and for each its query and key item."""
    if query_axis is None:
        return (QUERIES,), [(n, n) for n in range(QUERIES)]
    shape = (QUERIES, KEYS) if query_axis == 0 else (KEYS, QUERIES)
    every = [(a, b) for a in range(shape[0]) for b in range(shape[1])]
    return shape, every if query_axis == 0 else [(query, key) for key, query in every]


def arguments(query_axis):
    draw = torch.Generator().manual_seed(0)
    pairs, _ = pairs_of(query_axis)
    keys = QUERIES if query_axis is None else KEYS
    shapes = [(QUERIES, VECTORS, WIDTH)] * 2 + [(keys, KEY_VECTORS, WIDTH)] * 2
    shapes += [(*pairs, VECTORS, KEY_VECTORS), (*pairs, VECTORS), (WIDTH,)]
    found = [torch.randn(shape, generator=draw, dtype=torch.float64) for shape in shapes]
    found[4] = found[4].softmax(dim=-1)
    return [x.requires_grad_() for x in found]


def loops(query_axis, query, query_gate, key, key_gate, weights, logits, pool):
    """Returns the gated sums and gamma, pair by pair and vector by vector."""
    shape, items = pairs_of(query_axis)
    gated, gammas = [], []
    for (q, k), weight, logit in zip(items, weights.flatten(0, -3), logits.flatten(0, -2), strict=True):
        h = []
        for n in range(VECTORS):
            attended = sum(weight[n, m] * key[k, m] for m in range(KEY_VECTORS))
            gate = 1 / (
                1 + torch.exp(-query_gate[q, n] - sum(weight[n, m] * key_gate[k, m] for m in range(KEY_VECTORS)))
            )
            h.append(gate * (query[q, n] - attended))
        exponentials = [torch.exp(logit[n] + h[n] @ pool) for n in range(VECTORS)]
        gamma = [value / sum(exponentials) for value in exponentials]
        gated.append(sum(g * vector for g, vector in zip(gamma, h, strict=True)))
        gammas.append(torch.stack(gamma))
    return torch.stack(gated).view(*shape, WIDTH), torch.stack(gammas).view(*shape, VECTORS)


@pytest.mark.parametrize("floats", [1, 2 * VECTORS * WIDTH, 7 * VECTORS * WIDTH, 1 << 20])
@pytest.mark.parametrize("query_axis", [0, 1, None])
def test_values_equal_the_loops_in_chunks_of_any_size(query_axis, floats, monkeypatch):
    monkeypatch.setitem(module.CHUNK_FLOATS, "cpu", floats)
    given = arguments(query_axis)
    for enabled in (True, False):
        with torch.set_grad_enabled(enabled):
            found = gate_fuse_pool(*given, query_axis=query_axis)
        for one, expected in zip(found, loops(query_axis, *given), strict=True):
            torch.testing.assert_close(one, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("query_axis", [0, 1, None])
def test_recomputed_gradients_equal_those_of_the_loops(query_axis, monkeypatch):
    monkeypatch.setitem(module.CHUNK_FLOATS, "cpu", 4 * VECTORS * WIDTH)
    given = arguments(query_axis)
    slopes = []
    for gated, gamma in (gate_fuse_pool(*given, query_axis=query_axis), loops(query_axis, *given)):
        slopes.append(torch.autograd.grad(gated.square().sum() + (gamma * gamma.detach().sqrt()).sum(), given))
    for found, expected in zip(*slopes, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_no_tensor_of_a_vectors_width_is_kept_for_the_backward(monkeypatch):
    """h has N x D floats per pair: it is recomputed."""
    kept = []

    def keep(x):
        kept.append(x)
        return x

    given = arguments(0)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        gate_fuse_pool(*given, query_axis=0)
    assert max(x.numel() for x in kept) < QUERIES * KEYS * VECTORS * WIDTH
