"""All-pairs scoring of a test split, and the matrix product that gives the measured peak."""

from collections.abc import Iterator

import numpy as np
import torch

from pipelines.training import flop
from shan_model.scoring import PRECISIONS, score_matrix
from tests.benchmarks.gpu.card import against_peak, peak_memory_gib, reset_peak_memory, timed
from tests.benchmarks.gpu.sizes import GpuSizes
from tests.benchmarks.inputs import network, sentences
from tests.benchmarks.report import Benchmark, Measurement, within


def benchmarks(sizes: GpuSizes, device: str) -> list[Benchmark]:
    """The benchmarks of this file."""
    return [
        Benchmark("matrix product", lambda: matrix_product(sizes, device)),
        Benchmark("all-pairs scoring, bf16", lambda: all_pairs(sizes, device, "bf16")),
        Benchmark("all-pairs scoring, fp32", lambda: all_pairs(sizes, device, "fp32")),
        Benchmark("compiled graphs", compiled_graphs),
    ]


def matrix_product(sizes: GpuSizes, device: str) -> Iterator[Measurement]:
    """What a large product reaches: the realistic ceiling for the fractions of the peak in other rows."""
    side = sizes.product_side
    for dtype in (torch.bfloat16, torch.float32):
        a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        (spent,) = timed(lambda a=a, b=b: a @ b, device=device, rounds=3 * sizes.rounds)
        name = f"matrix product {side} x {side}, {str(dtype).removeprefix('torch.')}"
        yield from against_peak(name, 1 / spent, "products", 2 * side**3, device, dtype)


def all_pairs(sizes: GpuSizes, device: str, precision: str) -> Iterator[Measurement]:
    """Pairs per second from features in memory to scores in memory, encoders included."""
    photos, captions = sizes.split
    shape = (photos, sizes.regions, sizes.feature_dim)
    features = np.random.default_rng(0).standard_normal(shape, dtype=np.float32).astype(np.float16)
    model, texts = network(sizes).eval().to(device), sentences(captions, sizes.words)
    reset_peak_memory(device)
    (spent,) = timed(
        lambda: score_matrix(model, features, texts, precision=precision), device=device, rounds=sizes.rounds
    )
    memory = peak_memory_gib(device)
    words = [len(model.text_encoder.tokens(text)) for text in texts]
    operations = flop.all_pairs(model.config, photos, sizes.regions, words)
    operations += flop.encoders(model.config, photos * sizes.regions, sum(words))
    pairs, dtype = photos * captions, PRECISIONS[precision] or torch.float32
    what = f"scoring {photos:,} x {captions:,} pairs, {precision}"
    yield from against_peak(what, pairs / spent, "pairs", operations / pairs, device, dtype)
    yield Measurement(f"{what}: peak memory", memory, "GiB")


def compiled_graphs() -> Iterator[Measurement]:
    """Graphs compiled for the gates; beyond the limit, which each precision has, they run eagerly, slower."""
    from torch._dynamo import config
    from torch._dynamo.utils import counters

    limit = len(PRECISIONS) * config.recompile_limit
    yield within("graphs compiled for the gates", counters["stats"]["unique_graphs"], limit, "graphs")
