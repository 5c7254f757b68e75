"""Which regions are kept: the rule of the original pipeline (tools/generate_tsv.py)."""

from __future__ import annotations

from torch import Tensor


def keep(max_conf_R: Tensor, score: float, fewest: int, most: int) -> Tensor:
    """Indices of the regions with `max_conf` of at least `score`, but no fewer than `fewest` and no more than `most`.

    Best first; equal ones in their order. `max_conf` is `geometry.best_surviving_scores`. Equal `fewest` and `most`
    give the files of fixed 36; 10 and 100 the adaptive ones.
    """
    count = int((max_conf_R >= score).sum())
    return max_conf_R.argsort(descending=True, stable=True)[: min(max(count, fewest), most)]
