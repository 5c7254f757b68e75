"""Throughput of both detectors on photos of 640 x 480: `embedded` in batches, `bottom_up` with random weights."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import torch
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

from pipelines.detectors.bottom_up.config import BottomUpConfig
from pipelines.detectors.embedded_config import EmbeddedConfig
from tests.benchmarks.gpu.card import against_peak, peak_memory_gib, reset_peak_memory, timed
from tests.benchmarks.gpu.sizes import GpuSizes
from tests.benchmarks.inputs import noise_photos
from tests.benchmarks.report import Benchmark, Measurement
from tests.support.bottom_up_checkpoint import random_checkpoint

Precision = Literal["fp32", "bf16"]
WEIGHTS = "random.safetensors"


def benchmarks(sizes: GpuSizes, device: str) -> list[Benchmark]:
    """The benchmarks of this file."""
    return [
        Benchmark("detector embedded", lambda: embedded(sizes, device)),
        Benchmark("detector bottom_up, bf16", lambda: bottom_up(sizes, device, "bf16")),
        Benchmark("detector bottom_up, fp32", lambda: bottom_up(sizes, device, "fp32")),
    ]


def embedded(sizes: GpuSizes, device: str) -> Iterator[Measurement]:
    """Batches against one photo at a time, and against the preparation that one CPU core does for it."""
    from pipelines.detectors.embedded import Embedded
    from pipelines.detectors.ssdlite import preprocess

    detector, photos = Embedded(EmbeddedConfig(), device), list(noise_photos(sizes.embedded_photos))
    one_by_one = Embedded(EmbeddedConfig(), device)
    one_by_one.chunk_size = 1

    def prepare_only() -> None:
        for photo in photos:
            preprocess(photo)
            detector._square(photo)

    spent, single, prepared = timed(
        lambda: detector(photos), lambda: one_by_one(photos), prepare_only, device=device, rounds=sizes.rounds
    )
    what, rate = f"embedded, batches of {detector.chunk_size}", len(photos) / spent
    yield Measurement(what, rate, "photos/s", "one photo at a time", len(photos) / single)
    yield Measurement(what, rate, "photos/s", "limit: preparation on one CPU core", len(photos) / prepared)


def bottom_up(sizes: GpuSizes, device: str, precision: Precision) -> Iterator[Measurement]:
    """Batches of one size against the card's peak, and against one photo at a time."""
    photos = list(noise_photos(sizes.bottom_up_photos))
    detector = bottom_up_config(sizes, precision).build(device)
    with FlopCounterMode(display=False) as counter:
        detector(photos[:1])
    reset_peak_memory(device)
    (spent,) = timed(lambda: detector(photos), device=device, rounds=sizes.rounds)
    what = f"bottom_up {precision}, batches of {detector.batch_size}"
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    yield from against_peak(what, len(photos) / spent, "photos", counter.get_total_flops(), device, dtype)
    yield Measurement(f"{what}: peak memory", peak_memory_gib(device), "GiB")
    detector.batch_size = 1
    (single,) = timed(lambda: detector(photos), device=device, rounds=sizes.rounds)
    yield Measurement(what, len(photos) / spent, "photos/s", "one photo at a time", len(photos) / single)


@cache
def _weights() -> "TemporaryDirectory[str]":
    """A folder with random weights of 250 MB, WEIGHTS, until this process ends."""
    folder = TemporaryDirectory()
    tensors = {name: tensor.contiguous() for name, tensor in random_checkpoint().items()}
    save_file(tensors, Path(folder.name, WEIGHTS))
    return folder


def bottom_up_config(sizes: GpuSizes, precision: Precision) -> BottomUpConfig:
    """Settings of `bottom_up` with random weights."""
    return BottomUpConfig(
        str(Path(_weights().name, WEIGHTS)),
        precision=precision,
        shortest_side=sizes.shortest_side,
        longest_side=sizes.longest_side,
        proposals=sizes.proposals,
        min_boxes=sizes.min_boxes,
        max_boxes=sizes.min_boxes,
    )
