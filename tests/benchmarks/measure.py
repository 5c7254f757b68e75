"""Timing and memory that give stable ratios on a machine with other work on it (Linux: /proc)."""

import multiprocessing
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def seconds(
    *functions: Callable[[], object], rounds: int = 3, synchronize: Callable[[], object] = lambda: None
) -> list[float]:
    """Least seconds of each function over `rounds` calls, after one call to warm up.

    The functions take turns, so that other work on the machine slows all of them. `synchronize` waits for work that a
    function leaves queued on a device.
    """
    for function in functions:
        function()
    least = [float("inf")] * len(functions)
    for _ in range(rounds):
        for number, function in enumerate(functions):
            synchronize()
            start = time.perf_counter()
            function()
            synchronize()
            least[number] = min(least[number], time.perf_counter() - start)
    return least


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Runs the body on that many threads of torch."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_fresh_process(function: Callable[..., T], *args: object, **kwargs: object) -> T:
    """Returns what a function of a module returns in a process of its own, whose memory is then that of the function.

    Raises what the function raises, and BrokenProcessPool if its process is killed, for example for its memory.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_end_ray_after, function, *args, **kwargs).result()


def _end_ray_after(function: Callable[..., T], *args: object, **kwargs: object) -> T:
    try:
        return function(*args, **kwargs)
    finally:
        if ray := sys.modules.get("ray"):
            ray.shutdown()  # a process of a pool does not run what Ray registers for its exit


def gib(field: str) -> float:
    """VmRSS (resident now), RssAnon (without mapped files) or VmHWM (peak) of this process, in GiB.

    getrusage would start from the parent's peak.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.search(rf"{field}:\s+(\d+) kB", status)[1]) / 2**20  # type: ignore[index]


def tree_peak_gib(function: Callable[[], object]) -> float:
    """Peak memory of this process and its descendants during a call, in GiB (PSS: shared pages count once)."""
    peak, done = 0, threading.Event()

    def sample() -> None:
        nonlocal peak
        while True:
            peak = max(peak, sum(_pss_kib(each) for each in _tree(os.getpid())))
            if done.wait(0.25):
                return

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        function()
    finally:
        done.set()
        sampler.join()
    return peak / 2**20


def _tree(pid: int) -> list[int]:
    parents = {}
    for folder in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            parents[int(folder.name)] = int((folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    tree = [pid]
    for each in tree:
        tree += [child for child, parent in parents.items() if parent == each]
    return tree


def _pss_kib(pid: int) -> int:
    with suppress(OSError):
        found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
        return int(found[1]) if found else 0
    return 0


def drop_from_page_cache(*paths: Path) -> None:
    """Makes the next read of these files come from the disk, as it does for sources larger than memory."""
    os.sync()
    for path in paths:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
