"""All GPU benchmarks, one after the other."""

import time
from pathlib import Path

import torch

from tests.benchmarks.gpu import detectors, ray_training, scoring, training
from tests.benchmarks.gpu.card import memory_gib, name_of
from tests.benchmarks.gpu.sizes import FULL, GpuSizes
from tests.benchmarks.report import failed, run, table, write_json

JSON = Path("build/bench-gpu.json")
FILES = (training, scoring, detectors, ray_training)


def main(sizes: GpuSizes = FULL, device: str = "cuda", path: Path = JSON) -> int:
    """Runs the benchmarks on a device, prints the table, writes the JSON, and returns the exit code."""
    print(f"{name_of(device)}, {memory_gib(device):.0f} GiB, torch {torch.__version__}", flush=True)
    start = time.monotonic()
    results = list(run(benchmark for file in FILES for benchmark in file.benchmarks(sizes, device)))
    seconds = time.monotonic() - start
    print(f"\n{table(results)}\n\n{name_of(device)}, {seconds:.0f} s")
    write_json(path, results, device=name_of(device), torch=torch.__version__, seconds=seconds)
    print(f"written: {path}")
    return 1 if failed(results) else 0
