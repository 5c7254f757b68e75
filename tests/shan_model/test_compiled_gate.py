"""Tests of the gate for GPUs, on a CPU: values, gradients, graphs, fallback."""

import pytest
import torch

from shan_model import compiled_gate, gate_fuse_pool, native

WIDTH = 16
SIZES = [(5, 9, 7, 4), (9, 9, 9, 3), (3, 8, 8, 8), (2, 1, 4, 3)]
"""K query items of N vectors, L key items of M vectors: K, L, N, M."""


def arguments(k: int, n_keys: int, n: int, m: int, listed: bool, dtype: torch.dtype) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(n + m)
    pairs, own, keys = ((k,), (k,), k) if listed else ((k, n_keys), (k, 1), n_keys)
    shapes = [(*own, n, WIDTH)] * 2 + [(keys, m, WIDTH)] * 2 + [(*pairs, n, m), (*pairs, n), (WIDTH,)]
    found = [torch.randn(shape, generator=draw, dtype=torch.float64).to(dtype) for shape in shapes]
    found[4] = found[4].softmax(dim=-1)
    return [x.requires_grad_() for x in found]


def check_against_the_eager_function(dtype: torch.dtype, tolerance: float) -> None:
    for sizes in SIZES:
        for listed in (False, True):
            given = arguments(*sizes, listed, dtype)
            results = [function(*given) for function in (compiled_gate.fuse, gate_fuse_pool._fuse)]
            slopes = [torch.autograd.grad(g.square().sum() + gamma.square().sum(), given) for g, gamma in results]
            for found, expected in zip((*results[0], *slopes[0]), (*results[1], *slopes[1]), strict=True):
                torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
            with torch.no_grad():
                for found, expected in zip(compiled_gate.fuse(*given), results[1], strict=True):
                    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_values_and_gradients_equal_the_eager_function():
    check_against_the_eager_function(torch.float64, 1e-10)


@pytest.mark.integration  # half a minute of compilation
@pytest.mark.skipif(native.library() is None, reason="no C++ compiler, which torch.compile needs too")
@pytest.mark.long
def test_the_compiled_gate_has_few_graphs_and_equal_results(monkeypatch):
    from torch._dynamo.utils import counters  # takes seconds, also of processes that run other tests

    compiled_gate.compiled.cache_clear()
    torch._dynamo.reset()
    with torch.inference_mode():  # as scoring may ask for it
        compiled = compiled_gate.compiled("cpu", WIDTH, torch.float32)
    assert compiled is not compiled_gate.pool
    monkeypatch.setattr(compiled_gate, "COMPILED", {"cpu"})
    before = counters["stats"]["unique_graphs"]
    check_against_the_eager_function(torch.float32, 1e-4)
    # The first call compiled a block without and a list with gradients; the other two may take two graphs each.
    assert counters["stats"]["unique_graphs"] - before <= 4


def test_the_eager_function_is_used_if_compilation_fails(monkeypatch):
    def no_compiler(*_):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: no_compiler)
    compiled_gate.compiled.cache_clear()
    with pytest.warns(UserWarning, match="torch.compile failed"):
        assert compiled_gate.compiled("cpu", WIDTH, torch.float32) is compiled_gate.pool
    compiled_gate.compiled.cache_clear()
