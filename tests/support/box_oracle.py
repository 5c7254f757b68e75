"""Random boxes and slow reference implementations of box operations."""

from __future__ import annotations

import torch


def random_boxes(count: int, seed: int, width: float = 400, height: float = 300) -> torch.Tensor:
    """Returns boxes (count, 4), xyxy, within a photo of the given size."""
    corners = torch.rand(count, 2, 2, generator=torch.Generator().manual_seed(seed)) * torch.tensor([width, height])
    return torch.cat([corners.amin(1), corners.amax(1)], dim=1)


def iou(a: list[float], b: list[float]) -> float:
    """Returns the intersection over union of two boxes; 0 if both are empty."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union else 0.0


def reference_nms(boxes: list[list[float]], scores: list[float], threshold: float) -> list[int]:
    """Returns the indices that greedy non-maximum suppression keeps, by descending score."""
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(iou(boxes[i], boxes[k]) <= threshold for k in kept):
            kept.append(i)
    return kept
