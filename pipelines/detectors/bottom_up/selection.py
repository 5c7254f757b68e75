"""Selection of the regions, by the rule of the original pipeline (tools/generate_tsv.py)."""

from __future__ import annotations

from torch import Tensor


def keep(max_conf_R: Tensor, score: float, min_boxes: int, max_boxes: int) -> Tensor:
    """Returns the indices of the regions with `max_conf` of at least `score`, best first; equal ones keep their order.

    Their number is at least `min_boxes` and at most `max_boxes`. `max_conf` (R) is `geometry.best_surviving_scores`.
    Equal `min_boxes` and `max_boxes` reproduce the public files with 36 regions, 10 and 100 those with an adaptive
    number.
    """
    count = int((max_conf_R >= score).sum())
    return max_conf_R.argsort(descending=True, stable=True)[: min(max(count, min_boxes), max_boxes)]
