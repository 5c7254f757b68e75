"""A training step: time, peak memory and gradients against the reference implementation.

The reference's step over all 128 x 128 pairs would need some 30 GB and minutes. It is measured on 128 photos x a few
captions, without the encoders, and extrapolated to 128 captions. Memory is that of a fresh process beyond what it
held before the step.
"""

import time
from collections.abc import Iterator

import torch

from shan_model.alignment import Alignment
from shan_model.loss import ranking_loss
from shan_model.objective import RankingObjective, mined_ranking_loss
from tests.benchmarks import measure
from tests.benchmarks.inputs import encoded, network, sentences
from tests.benchmarks.measure import gib, threads
from tests.benchmarks.report import Benchmark, Measurement, within
from tests.benchmarks.scoring import implementations
from tests.benchmarks.sizes import Sizes

FEW_CAPTIONS = (2, 4)
"""Captions of the reference's steps; time and memory are extrapolated from them."""


def benchmarks(sizes: Sizes) -> list[Benchmark]:
    """The benchmarks of this file; all run on one thread."""
    return [
        Benchmark("training step", lambda: _steps(sizes)),
        Benchmark("gradients", lambda: _gradients(sizes)),
    ]


def _steps(sizes: Sizes) -> Iterator[Measurement]:
    mined, every = (measure.in_fresh_process(_step, sizes, hardest) for hardest in (True, False))
    reference = measure.in_fresh_process(_reference_step, sizes)
    encoders, size = mined["encoders"], sizes.batch_size
    peer = f"reference implementation, extrapolated from {FEW_CAPTIONS[-1]} captions"
    step_s, step_gib = reference["seconds_per_caption"] * size + encoders, reference["gib_per_caption"] * size
    yield Measurement(f"step of {size}, mined pairs, one thread", mined["seconds"], "s", peer, step_s, "lower", 20)
    yield Measurement(f"step of {size}, all pairs (mean of violations)", every["seconds"], "s", peer, step_s, "lower")
    yield Measurement(
        f"encoders of a step of {size}, forward and backward", encoders, "s", "step", mined["seconds"], "lower"
    )
    for name, step in (("mined pairs", mined), ("all pairs", every)):
        yield within(f"peak memory of the process, {name}", step["peak_gib"], 3, "GiB")
        yield Measurement(f"memory of the step, {name}", step["step_gib"], "GiB", peer, step_gib, "lower", 10)


@threads(1)
def _step(sizes: Sizes, hardest: bool) -> dict[str, float]:
    """Three steps of the objective: the least seconds, and the peak of memory."""
    objective = RankingObjective(network(sizes), margin=0.2)
    optimizer = torch.optim.Adam(objective.parameters())
    size = sizes.batch_size
    regions, captions = torch.randn(size, sizes.regions, sizes.feature_dim), sentences(size, sizes.words)
    before, least = gib("VmRSS"), float("inf")
    for _ in range(3):
        start = time.perf_counter()
        optimizer.zero_grad()
        objective(regions, captions, torch.arange(size), hardest).backward()
        torch.nn.utils.clip_grad_norm_(objective.parameters(), 2.0)
        optimizer.step()
        least = min(least, time.perf_counter() - start)
    peak, start = gib("VmHWM"), time.perf_counter()
    encoded_photos = objective.model.encode_photos(regions)
    (encoded_photos.sum() + sum(words.sum() for words in objective.model.encode_captions(captions))).backward()
    encoders = time.perf_counter() - start
    return {"seconds": least, "peak_gib": peak, "step_gib": peak - before, "encoders": encoders}


@threads(1)
def _reference_step(sizes: Sizes) -> dict[str, float]:
    """Forward and backward of the reference alignment for all photos and a few captions: the cost of a caption."""
    reference, _ = implementations(sizes)
    regions, words = encoded(sizes.batch_size, 7, sizes)
    words = words[6:] * max(FEW_CAPTIONS)  # of 14 words, the mean: as long as an average caption takes
    spent, peaks = [], []
    for count in FEW_CAPTIONS:
        start = time.perf_counter()
        _forward_and_backward(reference, regions, words[:count])
        spent.append(time.perf_counter() - start)
        peaks.append(gib("VmHWM"))
    few, many = FEW_CAPTIONS
    return {"seconds_per_caption": spent[1] / many, "gib_per_caption": (peaks[1] - peaks[0]) / (many - few)}


def _forward_and_backward(reference: Alignment, regions: torch.Tensor, words: list[torch.Tensor]) -> None:
    reference(regions.clone().requires_grad_(), [w.clone().requires_grad_() for w in words]).square().sum().backward()


def _gradients(sizes: Sizes) -> Iterator[Measurement]:
    """The largest difference of a gradient's element, relative to its tensor's largest element; batch of 16."""
    reference, batched = implementations(sizes)
    size = min(16, sizes.batch_size)
    regions, words = encoded(size, size, sizes)
    gradients = []
    with threads(1):
        for module in (reference, batched):
            inputs = [regions.clone().requires_grad_(), *(w.clone().requires_grad_() for w in words)]
            if module is reference:
                loss = ranking_loss(reference(inputs[0], inputs[1:]), torch.arange(size))
            else:
                loss = mined_ranking_loss(batched, list(inputs[0]), inputs[1:], torch.arange(size), margin=0.2)
            gradients.append(torch.autograd.grad(loss, [*module.parameters(), *inputs]))
    pairs = list(zip(*gradients, strict=True))
    largest = max(((a - b).abs().max() / a.abs().max().clamp(min=1e-12)).item() for a, b in pairs)
    yield within("gradients: largest relative difference to the reference", largest, 1e-4)
