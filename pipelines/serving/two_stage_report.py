"""pipelines/serving/two_stage_report.py."""

import time

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.features.feature_set import Split
from shan_model.model import SHAN
from shan_model.two_stage import Queries, pooled_cosines, two_stage

SHARES = (0.02, 0.05, 0.1, 0.2, 0.5)
"""Candidates a query, as a share of the gallery."""


@torch.no_grad()
def report(shan: SHAN, split: Split) -> str:
    """A Markdown table: candidates K a query against the share of exact first and first ten answers that they hold."""
    regions, words = _encoded(shan, split)
    start = time.perf_counter()
    exact_NC = shan.alignment(regions, words)
    spent = time.perf_counter() - start
    cheap_NC = pooled_cosines(regions, words)
    lines = [
        f"{split.name}: {len(split)} photos, {len(words)} captions; all {exact_NC.numel():,} pairs in {spent:.1f} s",
        "",
        "| queries | gallery | K = pairs scored a query | less work | exact top-1 kept | exact top-10 kept "
        "| whole stage two, s |",
        "|---|---|---|---|---|---|---|",
    ]
    sides: tuple[tuple[Queries, Tensor, Tensor], ...] = (
        ("photos", exact_NC, cheap_NC),
        ("captions", exact_NC.T, cheap_NC.T),
    )
    for queries, exact_QA, cheap_QA in sides:
        gallery = exact_QA.shape[1]
        for keep in sorted({max(1, round(share * gallery)) for share in SHARES}):
            first, ten = kept(exact_QA.numpy(), cheap_QA.numpy(), keep)
            start = time.perf_counter()
            two_stage(shan.alignment, regions, words, queries, keep)
            spent = time.perf_counter() - start
            lines.append(
                f"| {queries} | {gallery} | {keep} | {gallery / keep:.1f}x | {100 * first:.1f} % | {100 * ten:.1f} % "
                f"| {spent:.1f} |"
            )
    return "\n".join(lines)


def kept(exact_QA: NDArray[np.floating], cheap_QA: NDArray[np.floating], keep: int) -> tuple[float, float]:
    """Share of the exact best answer, and of the exact ten best, among the `keep` best by the cheap score."""
    candidates_QK = np.argsort(-cheap_QA, axis=1, kind="stable")[:, :keep]
    best_QT = np.argsort(-exact_QA, axis=1, kind="stable")[:, :10]
    held_QT = (best_QT[:, :, None] == candidates_QK[:, None, :]).any(axis=2)
    return float(held_QT[:, 0].mean()), float(held_QT.mean())


def _encoded(shan: SHAN, split: Split) -> tuple[Tensor, list[Tensor]]:
    at_once = 128
    regions = [
        shan.encode_photos(torch.from_numpy(split[top : top + at_once])) for top in range(0, len(split), at_once)
    ]
    words = []
    for left in range(0, len(split.captions), at_once):
        words += shan.encode_captions(split.captions[left : left + at_once])
    return torch.cat(regions), words
