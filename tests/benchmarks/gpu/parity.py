"""Parity of a device with the CPU: the same detectors, scores, gradients and resumed trainings within a tolerance.

Every check yields rows with a limit. Detectors are compared region by region: floats that differ in the last digit
may swap two near ties, so a fraction of the regions has to be found again, and their features have to agree.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from pipelines.detectors import registry
from pipelines.detectors.contract import Regions
from pipelines.detectors.embedded_config import EmbeddedConfig
from pipelines.training.checkpoint import TrainState
from pipelines.training.config import TrainConfig
from pipelines.training.step import objective_of, take_step
from shan_model import compiled_gate as gates
from shan_model import gate_fuse_pool
from shan_model.scoring import score_matrix
from tests.benchmarks.gpu.detectors import Precision, bottom_up_config
from tests.benchmarks.gpu.sizes import GpuSizes
from tests.benchmarks.gpu.training import STEPS_PER_EPOCH, random_batch, start
from tests.benchmarks.inputs import network, sentences
from tests.benchmarks.report import Measurement, within
from tests.support.tiny_vision import write_vision_model

FRACTION = 0.95
"""Least fraction of regions that are found again: same class, corners within BOX_PIXELS."""
BOX_PIXELS = 0.1
FEATURES = 1e-3
"""Largest difference of a feature, relative to the largest feature."""
BATCH_LIMITS: dict[Precision, tuple[float, float]] = {"fp32": (FRACTION, FEATURES), "bf16": (0.8, 0.05)}
"""The same limits for batches against single photos. With random weights, bf16 reorders many near ties."""
SCORES = {"fp32": 1e-4, "bf16": 1e-2}
"""Largest difference of a score to the CPU's float32 (scores of SHAN-full lie between -3 and 3)."""
GRADIENTS = 1e-3
"""Largest difference of a gradient's element, relative to its tensor's largest element."""


def embedded(sizes: GpuSizes, device: str) -> Iterator[Measurement]:
    """Regions of the `embedded` detector on real photos, all in one batch on the device."""
    photos, config = real_photos(), EmbeddedConfig()
    yield from _regions("embedded", config.build("cpu")(photos), config.build(device)(photos))


def bottom_up(sizes: GpuSizes, device: str) -> Iterator[Measurement]:
    """Regions of the `bottom_up` detector with random weights on real photos, in float32."""
    photos = real_photos()[: sizes.bottom_up_photos]
    config = bottom_up_config(sizes, "fp32")
    on_cpu, on_device = config.build("cpu"), config.build(device)
    yield from _regions("bottom_up", on_cpu(photos), on_device(photos))


def bottom_up_batches(sizes: GpuSizes, device: str) -> Iterator[Measurement]:
    """Regions of `bottom_up` on photos of one size, in one batch and one by one on the device, in both precisions."""
    (photo, *_) = real_photos()
    photos = [photo, photo[:, ::-1].copy(), photo[::-1].copy(), photo[::-1, ::-1].copy()]
    for precision, limits in BATCH_LIMITS.items():
        detector = bottom_up_config(sizes, precision).build(device)
        detector.batch_size = 1
        single = detector(photos)
        detector.batch_size = len(photos)
        yield from _regions(f"bottom_up {precision}, batches", single, detector(photos), *limits)


def huggingface(sizes: GpuSizes, device: str) -> Iterator[Measurement]:
    """Regions of tiny random models of Hugging Face on real photos, all in one batch on the device."""
    import transformers  # noqa: F401 - without it the check is skipped

    for name, family in (("huggingface", "rt_detr"), ("huggingface_patches", "vit")):
        with TemporaryDirectory() as folder:
            settings = {"min_boxes": 8, "max_boxes": 8} if name == "huggingface" else {}
            spec = registry.resolve(name, {"model": str(write_vision_model(Path(folder), family)), **settings})
            on_cpu, on_device = spec.build("cpu"), spec.build(device)
        yield from _regions(name, on_cpu(real_photos()), on_device(real_photos()))


def scores(sizes: GpuSizes, device: str) -> Iterator[Measurement]:
    """Scores of 16 photos with 40 captions, by SHAN and by TERN, whose layers use torch's kernels."""
    features = np.random.default_rng(0).standard_normal((16, sizes.regions, sizes.feature_dim), dtype=np.float32)
    for name, matcher in (("scores", "shan"), ("scores of TERN", "tern")):
        model, texts = network(sizes, matcher=matcher).eval(), sentences(40, sizes.words)
        expected = score_matrix(model, features, texts)
        model.to(device)
        for precision, limit in SCORES.items():
            found = score_matrix(model, features, texts, precision=precision)
            difference = float(np.abs(found - expected).max())
            yield within(f"{name}, {precision}: largest difference to the CPU's", difference, limit)


def gradients(sizes: GpuSizes, device: str) -> Iterator[Measurement]:
    """Gradients of the loss of a batch of 16 in float32, hardest negatives mined on each device."""
    config = TrainConfig(batch_size=16, num_workers=1)
    batch = random_batch(sizes, 16)
    found = []
    for place in ("cpu", device):
        objective = objective_of(network(sizes).to(place), config)
        regions, photos = torch.from_numpy(batch.regions).to(place), torch.from_numpy(batch.photos).to(place)
        objective(regions, batch.captions, photos, True).backward()
        found.append([parameter.grad.cpu() for parameter in objective.parameters() if parameter.grad is not None])
    yield within("gradients: largest relative difference to the CPU's", _relative(*found), GRADIENTS)


def compiled_gate(sizes: GpuSizes, device: str) -> Iterator[Measurement]:
    """The compiled gate against the eager one, values and gradients; fails where torch.compile does not work."""
    regions, words, width = sizes.regions, 14, sizes.joint_dim
    if gates.compiled(torch.device(device).type, width, torch.float32) is gates.pool:
        raise RuntimeError("torch.compile failed, so the gates run unfused; the warning above states why")
    draw = torch.Generator().manual_seed(0)
    own, other, pairs = (4, 1, regions, width), (3, words, width), (4, 3, regions)
    shapes = [own, own, other, other, (*pairs, words), pairs, (width,)]
    drawn = (torch.randn(shape, generator=draw) / shape[-1] ** 0.5 for shape in shapes)
    arguments = [tensor.to(device).requires_grad_() for tensor in drawn]
    results = []
    for function in (gate_fuse_pool._fuse, gates.fuse):
        gated, gamma = function(*arguments)
        gradient = torch.autograd.grad(gated.square().sum() + gamma.square().sum(), arguments)
        results.append([tensor.detach().cpu() for tensor in (gated, gamma, *gradient)])
    yield within("compiled gate: largest relative difference to the eager one", _relative(*results), GRADIENTS)


def resumed_training(sizes: GpuSizes, device: str) -> Iterator[Measurement]:
    """The loss after a checkpoint was written and read on the device, against that of the uninterrupted training."""
    config = TrainConfig(batch_size=8, num_workers=1, ema_decay=0.9, hard_negative_warmup_epochs=0)
    state, objective = start(sizes, config, device)
    batch = random_batch(sizes, 8)
    for _ in range(2):
        take_step(state, objective, [batch], config, STEPS_PER_EPOCH)
    with TemporaryDirectory() as folder:
        state.save(Path(folder), {"dataset": "benchmark"})
        resumed = TrainState(network(sizes), config, torch.device(device))
        resumed.load(Path(folder))
    losses = []
    for each in (state, resumed):
        objective = objective_of(each.shan, config)
        losses.append([take_step(each, objective, [batch], config, STEPS_PER_EPOCH)[0].item() for _ in range(3)])
    difference = max(abs(a - b) / max(abs(a), 1e-6) for a, b in zip(*losses, strict=True))
    yield within("resumed training: largest relative difference of a loss", difference, 1e-3)
    moments = [each.optimizer.state[next(each.shan.parameters())]["exp_avg"] for each in (state, resumed)]
    yield within("resumed training: tensors on another device", sum(m.device.type != _type(device) for m in moments), 0)


CHECKS: tuple[Callable[[GpuSizes, str], Iterator[Measurement]], ...] = (
    embedded,
    bottom_up,
    bottom_up_batches,
    huggingface,
    scores,
    gradients,
    compiled_gate,
    resumed_training,
)


def real_photos() -> list[np.ndarray]:
    """Three photos of different sizes, which scikit-image's wheel carries."""
    import skimage.data

    return [skimage.data.chelsea(), skimage.data.coffee(), skimage.data.astronaut()]


def _regions(
    name: str, expected: list[Regions], found: list[Regions], fraction: float = FRACTION, limit: float = FEATURES
) -> Iterator[Measurement]:
    """Rows of two detectors' regions of the same photos."""
    total, matched, worst = 0, 0, 0.0
    for ours, theirs in zip(expected, found, strict=True):
        for row in range(len(ours.boxes)):
            total += 1
            same_R = (np.abs(theirs.boxes - ours.boxes[row]).max(axis=1) <= BOX_PIXELS) & (
                theirs.classes == ours.classes[row]
            )
            if not same_R.any():
                continue
            matched += 1
            differences = np.abs(theirs.features[same_R] - ours.features[row]).max(axis=1) / np.abs(ours.features).max()
            worst = max(worst, float(differences.min()))
    yield Measurement(f"{name}: regions found again", 100 * matched / total, "%", "limit", 100 * fraction, goal=1)
    yield within(f"{name}: largest relative difference of their features", worst, limit)


def _relative(expected: list[Tensor], found: list[Tensor]) -> float:
    """The largest difference of an element, relative to its tensor's largest element."""
    pairs = zip(expected, found, strict=True)
    return max(((a - b).abs().max() / a.abs().max().clamp(min=1e-12)).item() for a, b in pairs)


def _type(device: str) -> str:
    return torch.device(device).type
