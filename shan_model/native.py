"""Compiled forms of what scoring does for every pair on a CPU: `kernels.cpp`, built by the machine's compiler.

It is built for this very processor when it is first asked for, in a second, into a folder that is gone once it is
loaded. Where there is no compiler (or it is too old for the source), callers take their torch form, which gives the
same numbers and is slower.
"""

import ctypes
import functools
import os
import platform
import shlex
import subprocess
import tempfile
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

PANEL, LANES = 64, 16
"""Channels that lie together, and floats of a register: kPanel and kLanes of the source."""

_SOURCE = Path(__file__).with_name("kernels.cpp")
_FLAGS = ["-O3", "-march=native", "-std=c++17", "-fPIC", "-shared", "-ffp-contract=fast", "-fno-math-errno"]
# Division by estimate and one Newton step, 2 ulp: a tenth of the whole kernel.
_FLAGS_X86 = ["-mrecip=vec-div", "-freciprocal-math", "-ffinite-math-only", "-fno-trapping-math"]


@functools.cache
def library() -> ctypes.CDLL | None:
    """The built source, or None, with a warning, where it cannot be built; `CXX` names another compiler than c++."""
    command = shlex.split(os.environ.get("CXX") or "c++")
    flags = [*_FLAGS, *(_FLAGS_X86 if platform.machine() == "x86_64" else [])]
    try:
        with tempfile.TemporaryDirectory() as folder:
            built = Path(folder) / "kernels.so"
            subprocess.run([*command, *flags, "-o", built, _SOURCE], capture_output=True, check=True, timeout=120)
            return ctypes.CDLL(str(built))
    except (OSError, subprocess.SubprocessError) as error:
        reason = " ".join(str(error).split())[:200]
        warnings.warn(f"no compiled scoring ({reason}); torch serves, at half the speed", stacklevel=2)
        return None


def usable(x: Tensor) -> bool:
    """Whether the compiled form may stand in for such tensors: float32, CPU, nothing to differentiate or to cast."""
    plain = x.dtype == torch.float32 and x.device.type == "cpu"
    return plain and not torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu") and library() is not None


def panels(x_KND: Tensor) -> Tensor:
    """K x N x D to K x ceil(D / PANEL) x N x PANEL, zeros where D ends inside a panel (they change no score)."""
    padded = functional.pad(x_KND, (0, -x_KND.shape[-1] % PANEL))
    return padded.unflatten(-1, (-1, PANEL)).transpose(1, 2).contiguous()


def context(
    own: Tensor,
    own_gate: Tensor,
    other: Tensor,
    other_gate: Tensor,
    other_norms: Tensor,
    weights: Tensor,
    logits: Tensor,
    pool_D: Tensor,
    *,
    query_axis: int | None,
) -> tuple[Tensor, Tensor]:
    """Cosines of contexts with what they attend (pairs) and the sums of both (pairs x D): Eq. 8 to 14 of one side.

    `own`, `own_gate`, `other` and `other_gate` are `panels`; the rest is as for `shan_model.gate_fuse_pool`.
    """
    items, blocks, vectors, _ = own.shape
    width = blocks * PANEL
    pool = functional.pad(pool_D, (0, width - len(pool_D))).contiguous()
    cosines, sums = own.new_empty(weights.shape[:-2]), own.new_empty(*weights.shape[:-2], width)
    arrays = (
        own,
        own_gate,
        other,
        other_gate,
        other_norms,
        weights.contiguous(),
        logits.contiguous(),
        pool,
        cosines,
        sums,
    )
    _run("context", arrays, items, len(other), vectors, other.shape[2], query_axis, width)
    return cosines, sums[..., : len(pool_D)]


def attend(
    norms_KN: Tensor, gram_LMM: Tensor, values_LM: Tensor, logits: Tensor, dots: Tensor, *, query_axis: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    """As `shan_model.attention.attend`; `logits` and `dots` lie alike, a whole N x M or its transpose a pair."""
    vectors, answers = logits.shape[-2:]
    assert dots.stride() == logits.stride()
    missing = -answers % LANES
    gram = functional.pad(gram_LMM, (0, missing)).contiguous()
    values = functional.pad(values_LM, (0, missing)).contiguous()
    weights = logits.new_empty(logits.shape)
    cosines, sums = logits.new_empty(logits.shape[:-1]), logits.new_empty(logits.shape[:-1])
    arrays = logits, dots, norms_KN.contiguous(), gram, values, weights, cosines, sums
    strides = logits.stride()[-2:]
    _run("attend", arrays, len(norms_KN), len(gram), vectors, answers, query_axis, answers + missing, *strides)
    return weights, cosines, sums


def _run(
    name: str,
    arrays: Sequence[Tensor],
    items: int,
    others: int,
    vectors: int,
    answers: int,
    query_axis: int | None,
    *more: int,
) -> None:
    """Calls a kernel for all pairs of `items` own with `others` other items, shared out over torch's threads."""
    count, strides = {None: (0, (1, 0)), 0: (others, (others, 1)), 1: (others, (1, items))}[query_axis]
    assert all(x.dtype == torch.float32 and x.device.type == "cpu" for x in arrays)
    pointers = [ctypes.c_void_p(x.data_ptr()) for x in arrays]
    sizes = [ctypes.c_int64(n) for n in (count, vectors, answers, *strides, *more)]
    kernel = getattr(library(), name)

    def run(begin: int, end: int) -> None:
        kernel(*pointers, ctypes.c_int64(begin), ctypes.c_int64(end), *sizes)

    threads = min(torch.get_num_threads(), items)
    cuts = [items * n // threads for n in range(threads + 1)]
    if threads == 1:
        run(0, items)
    else:
        with ThreadPoolExecutor(threads) as executor:
            list(executor.map(run, cuts[:-1], cuts[1:]))
