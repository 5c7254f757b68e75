"""A bottom_up checkpoint of the full layout with random weights, scaled so that activations stay finite."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pipelines.detectors.bottom_up.checkpoint_keys import checkpoint_shapes

SIZES = (64, 128, 256, 512)
RATIOS = (0.5, 1.0, 2.0)
"""Height over width."""


def anchors_of_the_cell() -> list[list[float]]:
    """Returns the 12 anchors by their definition: area size^2, height ratio * width, centred on 0."""
    anchors = []
    for size in SIZES:
        for ratio in RATIOS:
            width = math.sqrt(size * size / ratio)
            anchors.append([-width / 2, -ratio * width / 2, width / 2, ratio * width / 2])
    return anchors


def random_checkpoint(seed: int = 0) -> dict[str, Tensor]:
    """Returns all 640 tensors. Activations neither vanish nor explode, and regions differ in score."""
    generator = torch.Generator().manual_seed(seed)

    def normal(shape: tuple[int, ...], std: float, mean: float = 0.0) -> Tensor:
        return torch.randn(shape, generator=generator) * std + mean

    def make(name: str, shape: tuple[int, ...]) -> Tensor:
        if name.endswith("cell_anchors.0"):
            return torch.tensor(anchors_of_the_cell())
        if name.endswith("num_batches_tracked"):
            return torch.tensor(7)
        if ".norm." in name:
            return normalisation(name, shape)
        if name.endswith("bias"):
            return normal(shape, 0.1)
        fan_in = math.prod(shape[1:])
        gain = GAINS.get(name.removesuffix(".weight").rpartition(".")[2], math.sqrt(2))
        weight = normal(shape, gain / math.sqrt(fan_in))
        # What all regions share would decide every score; centred rows see less of it.
        return weight - weight.mean(dim=1, keepdim=True) if "cls_score" in name else weight

    def normalisation(name: str, shape: tuple[int, ...]) -> Tensor:
        part = name.rpartition(".")[2]
        if part == "running_var":
            return normal(shape, 0.1, 1.0).abs() * (70.0**2 if "stem" in name else 1.0)
        if part == "weight":
            return normal(shape, 0.05, 0.3 if "conv3" in name else 1.0)
        return normal(shape, 0.1)

    return {name: make(name, shape) for name, shape in checkpoint_shapes().items()}


GAINS = {"objectness_logits": 1.0, "anchor_deltas": 0.05, "cls_score": 1.5, "bbox_pred": 0.5, "cls_embedding": 16.0}
"""Gains of the layers whose output does not enter a ReLU."""
