"""The compiled form of gate, fuse and pool for scoring on a CPU: `gate_fuse_pool.cpp`, built by the machine's compiler.

It is built for this very processor when it is first asked for, in a second, into a folder that is gone once it is
loaded. Where there is no compiler (or it is too old for the source), callers take the torch form, which gives the
same numbers and is slower.
"""

import ctypes
import functools
import os
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

PANEL = 64
"""Channels that lie together; kPanel of the source."""

_SOURCE = Path(__file__).with_name("gate_fuse_pool.cpp")
_FLAGS = ["-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-std=c++17", "-fPIC", "-shared"]


@functools.cache
def library() -> ctypes.CDLL | None:
    """The built source, or None where it cannot be built; `CXX` names another compiler than c++ (unset: c++)."""
    compiler = shutil.which(os.environ.get("CXX") or "c++")
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / "gate_fuse_pool.so"
        done = subprocess.run([compiler, *_FLAGS, "-o", built, _SOURCE], capture_output=True, check=False)
        return ctypes.CDLL(str(built)) if done.returncode == 0 else None


def usable(x: Tensor) -> bool:
    """Whether the compiled form may stand in for tensors like this one: float32, CPU, nothing to differentiate."""
    return x.dtype == torch.float32 and x.device.type == "cpu" and not torch.is_grad_enabled() and library() is not None


def panels(x_KND: Tensor) -> Tensor:
    """K x N x D to K x ceil(D / PANEL) x N x PANEL, zeros where D ends inside a panel (they change no score)."""
    padded = torch.nn.functional.pad(x_KND, (0, -x_KND.shape[-1] % PANEL))
    return padded.unflatten(-1, (-1, PANEL)).transpose(1, 2).contiguous()


def gate_fuse_pool(
    own: Tensor,
    own_gate: Tensor,
    other: Tensor,
    other_gate: Tensor,
    weights: Tensor,
    logits: Tensor,
    pool_D: Tensor,
    *,
    own_axis: int | None,
) -> tuple[Tensor, Tensor]:
    """As `shan_model.gate_fuse_pool.gate_fuse_pool`, the four arrays as `panels`; shared out over torch's threads."""
    items, blocks, vectors, _ = own.shape
    answers, width = other.shape[2], blocks * PANEL
    others, strides = {None: (0, (1, 0)), 0: (len(other), (len(other), 1)), 1: (len(other), (1, items))}[own_axis]
    weights, gammas = weights.contiguous(), logits.clone(memory_format=torch.contiguous_format)
    pool = torch.nn.functional.pad(pool_D, (0, width - len(pool_D))).contiguous()
    gated = own.new_empty(*gammas.shape[:-1], width)
    arrays = own, own_gate, other, other_gate, weights, pool, gammas, gated
    pointers = [ctypes.c_void_p(x.data_ptr()) for x in arrays]
    sizes = [ctypes.c_int64(n) for n in (others, vectors, answers, width, *strides)]
    function = library()
    assert function is not None

    def run(begin: int, end: int) -> None:
        function.gate_fuse_pool(*pointers, ctypes.c_int64(begin), ctypes.c_int64(end), *sizes)

    threads = min(torch.get_num_threads(), items)
    cuts = [items * n // threads for n in range(threads + 1)]
    if threads == 1:
        run(0, items)
    else:
        with ThreadPoolExecutor(threads) as executor:
            list(executor.map(run, cuts[:-1], cuts[1:]))
    return gated[..., : len(pool_D)], gammas
