"""The card: its peak throughput by name, its memory, and waiting for it."""

from functools import partial
from typing import Any

import torch

from pipelines.training import flop
from tests.benchmarks.measure import gib, seconds
from tests.benchmarks.report import Measurement


def name_of(device: str) -> str:
    """The card's name; "CPU" for a CPU."""
    return torch.cuda.get_device_name(device) if _is_cuda(device) else "CPU"


def peak(device: str, dtype: torch.dtype) -> float | None:
    """Peak FLOP/s in bfloat16 or float32; None for a card that is not in the table."""
    return flop.peak(name_of(device), dtype == torch.bfloat16)


def against_peak(
    what: str, per_second: float, unit: str, flop: float, device: str, dtype: torch.dtype
) -> list[Measurement]:
    """Throughput against the most that the card's peak allows, and the same as FLOP/s.

    `flop` is the number of floating-point operations per `unit` (without "/s") of `per_second`.
    """
    limit, kind = peak(device, dtype), "bf16" if dtype == torch.bfloat16 else "float32"
    name = "unknown card" if limit is None else f"{kind} peak of {name_of(device)}"
    rate = flop * per_second / 1e12
    return [
        Measurement(what, per_second, f"{unit}/s", name, None if limit is None else limit / flop),
        Measurement(f"{what}: arithmetic", rate, "TFLOP/s", name, None if limit is None else limit / 1e12),
    ]


def timed(*functions: Any, device: str, rounds: int) -> list[float]:
    """`measure.seconds` on a device, after one more call each: shapes that differ may compile twice."""
    for function in functions:
        function()
    return seconds(*functions, rounds=rounds, synchronize=partial(synchronize, device))


def synchronize(device: str) -> None:
    """Waits for everything that is queued on the device."""
    if _is_cuda(device):
        torch.cuda.synchronize(device)


def reset_peak_memory(device: str) -> None:
    """Frees what torch's allocator holds unused, and measures peak memory from here on."""
    if _is_cuda(device):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_gib(device: str) -> float:
    """Peak memory of tensors on the card since `reset_peak_memory`; on a CPU that of the process since its start."""
    return torch.cuda.max_memory_allocated(device) / 2**30 if _is_cuda(device) else gib("VmHWM")


def memory_gib(device: str) -> float:
    """Memory of the card; on a CPU that of the machine."""
    if _is_cuda(device):
        return torch.cuda.get_device_properties(device).total_memory / 2**30
    with open("/proc/meminfo", encoding="ascii") as file:  # noqa: PTH123 - a kernel file
        return int(file.readline().split()[1]) / 2**20


def _is_cuda(device: str) -> bool:
    return torch.device(device).type == "cuda"
