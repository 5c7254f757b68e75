"""Measures retrieve-and-rerank on a split: recall of the exact top results against the number of candidates."""

import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from infra.progress import ProgressBar
from pipelines.features.split import Split
from pipelines.reports.tables import Table
from shan_model.batched_matcher import BatchedMatcher
from shan_model.model import SHAN
from shan_model.reranking import Queries, pooled_cosines, retrieve_and_rerank

FRACTIONS = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Candidates per query, as a fraction of the gallery."""
BATCH = 128
"""Photos or captions that are encoded at a time."""
HEADER = [
    *("queries", "gallery", "candidates per query", "fewer pairs"),
    *("recall of exact top 1", "recall of exact top 10", "retrieve and rerank, s"),
]


@torch.no_grad()
def reranking_table(shan: SHAN, split: Split) -> Table:
    """Returns a row per number of candidates: recall of the exact first result and of the exact first ten, and time.

    All pairs of the split are also scored exactly, in memory, for comparison. Bars show the photos and captions encoded
    and the pairs scored.
    """
    regions, words = _encode(shan, split)
    counts: dict[Queries, list[int]] = {"photos": _candidates(len(words)), "captions": _candidates(len(regions))}
    pairs = len(regions) * len(words) + len(regions) * sum(counts["photos"]) + len(words) * sum(counts["captions"])
    rows = []
    with ProgressBar(total=pairs, desc=f"score {split.name}", unit="pair", unit_scale=True) as bar:
        start = time.perf_counter()
        exact_NC = _score_exactly(shan.alignment, regions, words, bar.update)
        title = (
            f"{split.name}: {len(split)} photos, {len(words)} captions; "
            f"all {exact_NC.numel():,} pairs scored exactly in {time.perf_counter() - start:.1f} s"
        )
        cheap_NC = pooled_cosines(shan.alignment, regions, words).cpu()
        for queries in counts:
            exact_QG, cheap_QG = (exact_NC, cheap_NC) if queries == "photos" else (exact_NC.T, cheap_NC.T)
            for count in counts[queries]:
                recalls = candidate_recall(exact_QG.numpy(), cheap_QG.numpy(), count)
                start = time.perf_counter()
                ranking = retrieve_and_rerank(shan.alignment, regions, words, queries, count)
                bar.update(ranking.scores_QK.cpu().numel())  # the copy waits for a GPU
                seconds, gallery = time.perf_counter() - start, exact_QG.shape[1]
                numbers = [queries, str(gallery), str(count), f"{gallery / count:.1f}x"]
                rows.append([*numbers, *(f"{100 * recall:.1f} %" for recall in recalls), f"{seconds:.1f}"])
    return Table(title, HEADER, rows)


def _candidates(gallery: int) -> list[int]:
    return sorted({max(1, round(fraction * gallery)) for fraction in FRACTIONS})


def _score_exactly(
    alignment: BatchedMatcher, regions: list[Tensor], words: list[Tensor], progress: Callable[[int], object]
) -> Tensor:
    """Returns the scores N x C of all pairs, of which `progress` is called with the number of each block."""
    captions, rows = alignment.caption_groups(words), []
    for top in range(0, len(regions), BATCH):
        rows.append(alignment.score_block(alignment.photo_groups(regions[top : top + BATCH]), captions).cpu())
        progress(rows[-1].numel())
    return torch.cat(rows)


def candidate_recall(
    exact_QG: NDArray[np.floating], cheap_QG: NDArray[np.floating], candidates: int
) -> tuple[float, float]:
    """Returns the fractions of the exact first result, and of the exact first ten, found among the candidates."""
    candidates_QK = np.argsort(-cheap_QG, axis=1, kind="stable")[:, :candidates]
    best_QT = np.argsort(-exact_QG, axis=1, kind="stable")[:, :10]
    found_QT = (best_QT[:, :, None] == candidates_QK[:, None, :]).any(axis=2)
    return float(found_QT[:, 0].mean()), float(found_QT.mean())


def _encode(shan: SHAN, split: Split) -> tuple[list[Tensor], list[Tensor]]:
    """Returns the encoded photos R x D each and captions W x D each. Photos may differ in their number of regions."""
    regions, words = list[Tensor](), list[Tensor]()
    with ProgressBar(total=len(split), desc=f"encode {split.name}", unit="photo") as bar:
        for top in range(0, len(split), BATCH):
            features = [torch.from_numpy(np.array(regions_RF)) for regions_RF in split[top : top + BATCH]]
            regions += shan.encode_photos(features)
            bar.update(len(features))
    with ProgressBar(total=len(split.captions), desc=f"encode {split.name}", unit="caption") as bar:
        for left in range(0, len(split.captions), BATCH):
            captions = split.captions[left : left + BATCH]
            words += shan.encode_captions(captions)
            bar.update(len(captions))
    return regions, words
