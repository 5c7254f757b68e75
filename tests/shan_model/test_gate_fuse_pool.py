"""Tests of the compiled gate function, which GPUs use, compiled for the CPU: values, gradients, fallback."""

import pytest
import torch

from shan_model import gate_fuse_pool as forms
from shan_model import native

SHAPES = [((5,), (5,)), ((3, 1), (4,)), ((1,), (1,))]


def arguments(own: tuple[int, ...], other: tuple[int, ...], n: int, m: int, d: int) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(n + m + d)
    pairs = torch.broadcast_shapes(own, other)
    shapes = [(*own, n, d)] * 2 + [(*other, m, d)] * 2 + [(*pairs, n, m), (*pairs, n), (d,)]
    found = [torch.randn(shape, generator=draw, dtype=torch.float64) for shape in shapes]
    found[4] = found[4].softmax(dim=-1)
    return [x.requires_grad_() for x in found]


@pytest.mark.integration  # half a minute of compilation
@pytest.mark.skipif(native.library() is None, reason="no C++ compiler, which torch.compile needs too")
def test_the_compiled_function_equals_the_eager_one_at_every_shape():
    forms.compiled.cache_clear()
    with torch.inference_mode():  # as mining and scoring ask for it
        compiled = forms.compiled("cpu")
    assert compiled is not forms._fuse
    for (own, other), n, m, d in zip(SHAPES[:2], (36, 7), (14, 3), (64, 10), strict=True):
        given = arguments(own, other, n, m, d)
        results = [function(*given) for function in (compiled, forms._fuse)]
        slopes = [torch.autograd.grad(gated.square().sum() + gamma.square().sum(), given) for gated, gamma in results]
        for found, expected in zip((*results[0], *slopes[0]), (*results[1], *slopes[1]), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
        with torch.no_grad():
            for found, expected in zip(compiled(*given), results[1], strict=True):
                torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_the_eager_function_is_used_if_compilation_fails(monkeypatch):
    def no_compiler(*_):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: no_compiler)
    forms.compiled.cache_clear()
    with pytest.warns(UserWarning, match="torch.compile failed"):
        assert forms.compiled("cpu") is forms._fuse
    forms.compiled.cache_clear()
