"""Sentences to ranked photos, with the model that users get.

python -m jobs.search --model models:/shan-flickr30k@champion --features URI "a dog runs on the beach"
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from infra.errors import UserError
from infra.store import require_folder
from jobs import cli
from jobs.load import MODEL_HELP, load_matchers
from jobs.search_page import write_page
from pipelines.feature_set import FeatureSet, Split
from shan_model.model import SHAN
from shan_model.scoring import score_matrix


@dataclass(frozen=True)
class Hit:
    """A ranked photo."""

    row: int
    source: str
    score: float
    described: bool
    """Whether the query is, word for word, one of this photo's captions."""


def search(shan: SHAN, split: Split, queries: list[str], top: int) -> list[list[Hit]]:
    """The `top` best photos of the split for every query, best first."""
    scores_NQ = score_matrix(shan, split, queries)
    return [
        [
            Hit(row, split.meta[row]["source"], float(scores_NQ[row, q]), query in split.meta[row]["captions"])
            for row in np.argsort(-scores_NQ[:, q], kind="stable")[:top].tolist()
        ]
        for q, query in enumerate(queries)
    ]


def report(queries: list[str], results: list[list[Hit]]) -> str:
    """The ranking as text; a star marks the photo that a query was written for."""
    lines = []
    for query, hits in zip(queries, results, strict=True):
        lines.append(f'"{query}"')
        lines += [f"  {i}. {h.source}  {h.score:.3f}{'  *' if h.described else ''}" for i, h in enumerate(hits, 1)]
    return "\n".join(lines)


def _arguments(parser: Any) -> None:
    parser.add_argument("queries", type=str, nargs="+", help="sentences to search with")
    parser.add_argument("--model", type=str, required=True, help=MODEL_HELP)
    parser.add_argument("--features", type=str, required=True, help="URI of the feature set to search in")
    parser.add_argument("--split", type=str, default="test", help="train, val or test")
    parser.add_argument("--page", type=Path | None, default=None, help="also write photos and boxes to this HTML file")
    parser.add_argument("--top", type=int, default=5, help="photos to show for each query")


def main() -> None:
    """Command line."""
    arguments, config = cli.parse("search", "Sentences to ranked photos.", _arguments, ("tracking",))
    if arguments.top < 1:
        raise UserError(f"--top is {arguments.top}; show at least 1 photo")
    if arguments.page is not None:
        require_folder(arguments.page.parent, "--page")
    features = FeatureSet.open(arguments.features)
    split = features.split(arguments.split)
    (shan,) = load_matchers([arguments.model], features, config.tracking)
    results = search(shan, split, arguments.queries, arguments.top)
    print(report(arguments.queries, results))
    if arguments.page is not None:
        hits: dict[str, Sequence[tuple[int, float]]] = {
            q: [(hit.row, hit.score) for hit in found] for q, found in zip(arguments.queries, results, strict=True)
        }
        write_page(arguments.page, arguments.model, shan, features, split, hits)


if __name__ == "__main__":
    cli.run(main)
