"""Measures retrieve-and-rerank on a split: recall of the exact top results against the number of candidates."""

import time

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.features.split import Split
from pipelines.reports.tables import Table
from shan_model.model import SHAN
from shan_model.reranking import Queries, mean_cosines, retrieve_and_rerank

SHARES = (0.02, 0.05, 0.1, 0.2, 0.5)
"""Candidates per query, as a share of the gallery."""
BATCH = 128
"""Photos or captions that are encoded at a time."""


@torch.no_grad()
def reranking_table(shan: SHAN, split: Split) -> Table:
    """Returns a row per number of candidates: recall of the exact first result and of the exact first ten, and time.

    All pairs of the split are also scored exactly, in memory, for comparison.
    """
    regions, words = _encode(shan, split)
    start = time.perf_counter()
    exact_NC = shan.alignment(regions, words).cpu()
    seconds = time.perf_counter() - start
    title = (
        f"{split.name}: {len(split)} photos, {len(words)} captions; "
        f"all {exact_NC.numel():,} pairs scored exactly in {seconds:.1f} s"
    )
    cheap_NC = mean_cosines(regions, words).cpu()
    directions: tuple[tuple[Queries, Tensor, Tensor], ...] = (
        ("photos", exact_NC, cheap_NC),
        ("captions", exact_NC.T, cheap_NC.T),
    )
    rows = []
    for queries, exact_QG, cheap_QG in directions:
        gallery = exact_QG.shape[1]
        for candidates in sorted({max(1, round(share * gallery)) for share in SHARES}):
            top1, top10 = candidate_recall(exact_QG.numpy(), cheap_QG.numpy(), candidates)
            start = time.perf_counter()
            retrieve_and_rerank(shan.alignment, regions, words, queries, candidates).scores_QK.cpu()  # waits for a GPU
            seconds = time.perf_counter() - start
            rows.append(
                [
                    *(queries, str(gallery), str(candidates), f"{gallery / candidates:.1f}x"),
                    *(f"{100 * top1:.1f} %", f"{100 * top10:.1f} %", f"{seconds:.1f}"),
                ]
            )
    header = [
        *("queries", "gallery", "candidates per query", "fewer pairs"),
        *("recall of exact top 1", "recall of exact top 10", "retrieve and rerank, s"),
    ]
    return Table(title, header, rows)


def candidate_recall(
    exact_QG: NDArray[np.floating], cheap_QG: NDArray[np.floating], candidates: int
) -> tuple[float, float]:
    """Returns the shares of the exact first result, and of the exact first ten, found among the candidates."""
    candidates_QK = np.argsort(-cheap_QG, axis=1, kind="stable")[:, :candidates]
    best_QT = np.argsort(-exact_QG, axis=1, kind="stable")[:, :10]
    found_QT = (best_QT[:, :, None] == candidates_QK[:, None, :]).any(axis=2)
    return float(found_QT[:, 0].mean()), float(found_QT.mean())


def _encode(shan: SHAN, split: Split) -> tuple[list[Tensor], list[Tensor]]:
    """Returns the encoded photos R x D each and captions W x D each. Photos may differ in their number of regions."""
    regions, words = list[Tensor](), list[Tensor]()
    for top in range(0, len(split), BATCH):
        regions += shan.encode_photos(
            [torch.from_numpy(np.array(regions_RF)) for regions_RF in split[top : top + BATCH]]
        )
    for left in range(0, len(split.captions), BATCH):
        words += shan.encode_captions(split.captions[left : left + BATCH])
    return regions, words
