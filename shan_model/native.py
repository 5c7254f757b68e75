"""Native implementation of the per-pair computations on a CPU: `kernels.cpp`, compiled on this machine.

The source is compiled for this machine on first use, in one to five seconds, and kept for later processes in
`~/.cache/shan/native`. Without a working C++ compiler, a warning is issued and callers use their torch implementation,
which gives the same scores and is slower.

Shapes: K query items of N vectors, L key items of M vectors, D joint width; `pairs` stands for the leading axes of the
pairs.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import subprocess
import tempfile
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

PANEL, LANES = 64, 16
"""Contiguous channels of a panel and floats of a vector register: kPanel and kLanes of the source."""

_SOURCE = Path(__file__).with_name("kernels.cpp")
_FLAGS = ["-O3", "-march=native", "-std=c++17", "-fPIC", "-shared", "-ffp-contract=fast", "-fno-math-errno"]
# Division by a reciprocal estimate and one Newton step (2 ulp) saves a tenth of the kernel's time.
_FLAGS_X86 = ["-mrecip=vec-div", "-freciprocal-math", "-ffinite-math-only", "-fno-trapping-math"]


@functools.cache
def library() -> ctypes.CDLL | None:
    """Loads the kernels, compiled if need be; warns and returns None if that fails.

    `CXX` selects a compiler other than c++.
    """
    command = [*shlex.split(os.environ.get("CXX") or "c++"), *_FLAGS]
    command += _FLAGS_X86 if platform.machine() == "x86_64" else []
    try:
        try:
            return _load(command, _cache_folder())
        except (OSError, RuntimeError):  # no home, read-only, full, without execution, or not only this user's
            with tempfile.TemporaryDirectory() as folder:
                return _load(command, Path(folder))
    except (OSError, subprocess.SubprocessError) as error:
        said: bytes | None = getattr(
            error, "stderr", None
        )  # of the compiler; without it, the end of `error` is the reason
        reason = " ".join((said.decode(errors="replace") if said else str(error)).split())[-200:]
        warnings.warn(
            f"native scoring cannot be compiled ({reason}); torch is used, at about half the speed",
            stacklevel=2,
        )
        return None


def _cache_folder() -> Path:
    """Returns the folder of compiled kernels. Raises PermissionError if others may write to it: its files are run."""
    folder = Path("~/.cache/shan/native").expanduser()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    if status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise PermissionError(f"{folder} belongs to another user or can be written by others")
    return folder


def _load(command: list[str], folder: Path) -> ctypes.CDLL:
    """Loads the kernels from a folder, and compiles them into it first if they are missing or corrupt.

    Their name is a digest of the source, the command, and the compiler's macros, which state its version and the
    instructions of this machine's processor.
    """
    macros = _output([*command, "-dM", "-E", "-x", "c++", os.devnull])
    digest = hashlib.sha256(b"\0".join([_SOURCE.read_bytes(), repr(command).encode(), macros]))
    kept = folder / f"kernels-{digest.hexdigest()[:32]}.so"
    with suppress(OSError):
        return ctypes.CDLL(str(kept))
    with tempfile.TemporaryDirectory(dir=folder) as temporary:  # other processes may compile at the same time
        built = Path(temporary) / kept.name
        _output([*command, "-o", str(built), str(_SOURCE)])
        loaded = ctypes.CDLL(str(built))
        built.replace(kept)
    return loaded


def _output(command: list[str]) -> bytes:
    return subprocess.run(command, capture_output=True, check=True, timeout=120).stdout


def usable(x: Tensor) -> bool:
    """Returns whether the native implementation applies: float32 on a CPU, without gradients and without autocast."""
    supported = x.dtype == torch.float32 and x.device.type == "cpu"
    return supported and not torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu") and library() is not None


def panels(x_KND: Tensor) -> Tensor:
    """Rearranges K x N x D to K x ceil(D / PANEL) x N x PANEL; the last panel is padded with zeros."""
    return _padded(x_KND, PANEL).unflatten(-1, (-1, PANEL)).transpose(1, 2).contiguous()


def _padded(x: Tensor, multiple: int) -> Tensor:
    """Returns a tensor with zeros behind its last axis, up to a multiple; `pad` would copy one that needs none."""
    missing = -x.shape[-1] % multiple
    return functional.pad(x, (0, missing)) if missing else x


def context(
    query: Tensor,
    query_gate: Tensor,
    key: Tensor,
    key_gate: Tensor,
    key_norms: Tensor,
    weights: Tensor,
    logits: Tensor,
    pool_D: Tensor,
    *,
    query_axis: int | None,
) -> tuple[Tensor, Tensor]:
    """Computes Eq. 8 to 14 of one direction.

    Returns the cosines of the contexts with their attended vectors (pairs) and the sums of both (pairs x D). `query`,
    `query_gate`, `key` and `key_gate` are in `panels`; the other arguments are those of `shan_model.gate_fuse_pool`.
    """
    items, panel_count, vectors, _ = query.shape
    width = panel_count * PANEL
    pool = _padded(pool_D, PANEL).contiguous()
    cosines, sums = query.new_empty(weights.shape[:-2]), query.new_empty(*weights.shape[:-2], width)
    arrays = (
        query,
        query_gate.contiguous(),
        key,
        key_gate.contiguous(),
        key_norms,
        weights.contiguous(),
        logits.contiguous(),
        pool,
        cosines,
        sums,
    )
    _run("context", arrays, items, len(key), vectors, key.shape[2], query_axis, width)
    return cosines, sums[..., : len(pool_D)]


def attend(
    norms_KN: Tensor, gram_LMM: Tensor, values_LM: Tensor, logits: Tensor, dots: Tensor, *, query_axis: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Computes the same as `shan_model.attention.attend`.

    `logits` and `dots` have the same strides; each pair is a contiguous N x M matrix or the transpose of one.
    """
    vectors, keys = logits.shape[-2:]
    assert dots.stride() == logits.stride()
    gram, values = _padded(gram_LMM, LANES).contiguous(), _padded(values_LM, LANES).contiguous()
    weights = logits.new_empty(logits.shape)
    cosines, sums = logits.new_empty(logits.shape[:-1]), logits.new_empty(logits.shape[:-1])
    arrays = logits, dots, norms_KN.contiguous(), gram, values, weights, cosines, sums
    strides = logits.stride()[-2:]
    _run("attend", arrays, len(norms_KN), len(gram), vectors, keys, query_axis, values.shape[-1], *strides)
    return weights, cosines, sums


def _run(
    name: str,
    arrays: Sequence[Tensor],
    items: int,
    key_items: int,
    vectors: int,
    keys: int,
    query_axis: int | None,
    *more: int,
) -> None:
    """Runs a kernel for all pairs of `items` query items with `key_items` key items, on torch's number of threads."""
    count, strides = {None: (0, (1, 0)), 0: (key_items, (key_items, 1)), 1: (key_items, (1, items))}[query_axis]
    assert all(x.dtype == torch.float32 and x.device.type == "cpu" for x in arrays)
    pointers = [ctypes.c_void_p(x.data_ptr()) for x in arrays]
    sizes = [ctypes.c_int64(n) for n in (count, vectors, keys, *strides, *more)]
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
