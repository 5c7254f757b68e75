"""Text-to-image search: ranks the photos of a split for each query with a model."""

from dataclasses import dataclass

import numpy as np

from pipelines.features.feature_set import Split
from shan_model.model import SHAN
from shan_model.scoring import score_matrix


@dataclass(frozen=True)
class Hit:
    """A ranked photo."""

    row: int
    """Row of the split."""
    source: str
    score: float
    is_match: bool
    """Whether the query is, word for word, one of this photo's captions."""


def search(shan: SHAN, split: Split, queries: list[str], top: int) -> list[list[Hit]]:
    """Returns the `top` photos of the split for each query, best first. All photos are scored exactly."""
    scores_NQ = score_matrix(shan, split, queries)
    return [
        [
            Hit(row, split.sources[row], float(scores_NQ[row, q]), query in split.captions_of_photos[row])
            for row in np.argsort(-scores_NQ[:, q], kind="stable")[:top].tolist()
        ]
        for q, query in enumerate(queries)
    ]


def search_listing(queries: list[str], results: list[list[Hit]]) -> str:
    """Returns the ranking as text; a star marks a photo whose caption is the query."""
    lines = []
    for query, hits in zip(queries, results, strict=True):
        lines.append(f'"{query}"')
        lines += [f"  {i}. {h.source}  {h.score:.3f}{'  *' if h.is_match else ''}" for i, h in enumerate(hits, 1)]
    return "\n".join(lines)
