"""A training step at full size: time, peak memory and gradients against the plain form.

The plain form's step over all 128 x 128 pairs needs some 30 GB and minutes: it is measured on 128 photos x a few
captions, without the encoders, and extrapolated to 128 captions in the open. Memory is that of a fresh process, beyond
what it held before the step; `python -m tests.benchmarks.training mined|all|plain` is that process.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator

import torch

from shan_model.alignment import Alignment
from shan_model.loss import ranking_loss
from shan_model.objective import RankingObjective, mined_ranking_loss
from tests.benchmarks.inputs import FEATURES, REGIONS, encoded, network, sentences
from tests.benchmarks.measure import Row, gib, threads
from tests.benchmarks.scoring import forms

BATCH = 128
PLAIN_CAPTIONS = (2, 4)


def rows() -> Iterator[Row]:
    """Every figure of this file."""
    mined, every, plain = (_measured(what) for what in ("mined", "all", "plain"))
    encoders = mined["encoders"]
    plain_step = plain["seconds_a_caption"] * BATCH + encoders
    plain_gib = plain["gib_a_caption"] * BATCH
    yield Row("step of 128, mined pairs, one thread", mined["seconds"], "s")
    yield Row("step of 128, all pairs (warm-up on the mean), one thread", every["seconds"], "s")
    yield Row("step of 128, encoders alone, forward and backward", encoders, "s")
    yield Row(f"step of 128, plain form, extrapolated from {PLAIN_CAPTIONS[-1]} captions", plain_step, "s")
    yield Row("step of 128: mined pairs against plain form", plain_step / mined["seconds"], "x", 12)
    yield Row("step of 128: all pairs against plain form", plain_step / every["seconds"], "x")
    yield Row("peak memory of the process, mined pairs", mined["peak_gib"], "GiB", 3, "lower")
    yield Row("peak memory of the process, all pairs", every["peak_gib"], "GiB", 3, "lower")
    yield Row("memory of the step, plain form, extrapolated", plain_gib, "GiB")
    yield Row("memory of the step: mined pairs, share of plain form", mined["step_gib"] / plain_gib, "", 0.1, "lower")
    yield Row("memory of the step: all pairs, share of plain form", every["step_gib"] / plain_gib, "", 0.1, "lower")
    with threads(1):
        yield Row("gradients: largest difference, relative", _gradient_difference(), "", 1e-4, "lower")


def _measured(what: str) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.benchmarks.training", what]
    result: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return result


def _step(hardest: bool) -> dict[str, float]:
    """Three whole steps of the objective: the least seconds, and the peak of memory."""
    objective = RankingObjective(network(), margin=0.2)
    optimizer = torch.optim.Adam(objective.parameters())
    regions, captions, rows_B = torch.randn(BATCH, REGIONS, FEATURES), sentences(BATCH), torch.arange(BATCH)
    before, least = gib("VmRSS"), float("inf")
    for _ in range(3):
        start = time.perf_counter()
        optimizer.zero_grad()
        objective(regions, captions, rows_B, hardest).backward()
        torch.nn.utils.clip_grad_norm_(objective.parameters(), 2.0)
        optimizer.step()
        least = min(least, time.perf_counter() - start)
    peak, start = gib("VmHWM"), time.perf_counter()
    encoded_photos = objective.model.encode_photos(regions)
    (encoded_photos.sum() + sum(words.sum() for words in objective.model.encode_captions(captions))).backward()
    encoders = time.perf_counter() - start
    return {"seconds": least, "peak_gib": peak, "step_gib": peak - before, "encoders": encoders}


def _plain() -> dict[str, float]:
    """Forward and backward of the plain alignment for all photos and a few captions: the slope between two counts."""
    plain, _ = forms()
    regions, words = encoded(BATCH, 7)
    words = words[6:] * max(PLAIN_CAPTIONS)  # of 14 words, the mean: as long as an average caption takes
    spent, peaks = [], []
    for count in PLAIN_CAPTIONS:
        start = time.perf_counter()
        _forward_and_backward(plain, regions, words[:count])
        spent.append(time.perf_counter() - start)
        peaks.append(gib("VmHWM"))
    few, many = PLAIN_CAPTIONS
    return {
        "seconds_a_caption": spent[1] / many,
        "gib_a_caption": (peaks[1] - peaks[0]) / (many - few),
    }


def _forward_and_backward(plain: Alignment, regions: torch.Tensor, words: list[torch.Tensor]) -> None:
    plain(regions.clone().requires_grad_(), [w.clone().requires_grad_() for w in words]).square().sum().backward()


def _gradient_difference() -> float:
    """Largest difference of a parameter's or an input's slope, in units of that tensor's largest slope; batch 16."""
    plain, fast = forms()
    regions, words = encoded(16, 16)
    slopes = []
    for module in (plain, fast):
        inputs = [regions.clone().requires_grad_(), *(w.clone().requires_grad_() for w in words)]
        if module is plain:
            loss = ranking_loss(plain(inputs[0], inputs[1:]), torch.arange(16))
        else:
            loss = mined_ranking_loss(fast, list(inputs[0]), inputs[1:], torch.arange(16), margin=0.2)
        slopes.append(torch.autograd.grad(loss, [*module.parameters(), *inputs]))
    pairs = zip(*slopes, strict=True)
    return max(((a - b).abs().max() / a.abs().max().clamp(min=1e-12)).item() for a, b in pairs)


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    what = sys.argv[1]
    print(json.dumps(_plain() if what == "plain" else _step(hardest=what == "mined")))
