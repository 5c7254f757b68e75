"""Recall of the candidates of a search index against exhaustive exact scoring, in both directions.

    python -m tests.benchmarks.search_recall URI [--split test] [--queries 500] [--other URI]

Queries are photos of a split and captions of theirs, spread evenly over it. Both are compared with all items of the
index, by the model that the index records. `--other` is an index of the same items with other stored vectors
(`index.vector_type`); it adds how much of the exhaustive results both have.
"""

import argparse
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from infra.tracking import TrackingConfig
from pipelines.reports.tables import Table
from pipelines.search.gallery import Filter
from pipelines.search.index import SCORED_AT_ONCE, EncodedQueries, SearchIndex
from pipelines.search.index_commands import load_version
from pipelines.search.index_format import read_index_document

CANDIDATES = (10, 20, 50, 100, 120, 250, 600)
BEST = 10
HEADER = ["gallery", "items", "candidates", "recall of exact top 1", "recall of exact top 10", "pairs scored exactly"]


@torch.inference_mode()
def photo_queries(index: SearchIndex, rows: NDArray[np.int64]) -> EncodedQueries:
    """Returns photos of the index as queries for captions."""
    items = [item.float() for item in index.gallery("photos").vectors(rows)]
    return EncodedQueries(items, index.shan.alignment.pooled_photos(items).numpy())


def caption_queries(index: SearchIndex, rows: NDArray[np.int64]) -> EncodedQueries:
    """Returns the first caption of each of these photos as queries for photos."""
    return index.encode_sentences([index.gallery("photos").item(int(row)).captions[0] for row in rows])


def exhaustive(index: SearchIndex, gallery: str, queries: EncodedQueries) -> NDArray[np.int64]:
    """Returns the best rows Q x BEST of the complete gallery, by exact scores."""
    total = index.gallery(gallery).total
    chunks = [np.arange(start, min(start + SCORED_AT_ONCE, total)) for start in range(0, total, SCORED_AT_ONCE)]
    scores = [index.exact_scores(gallery, queries.items, rows) for rows in tqdm(chunks, desc=f"exact {gallery}")]
    return np.argsort(-np.concatenate(scores, axis=1), axis=1, kind="stable")[:, :BEST]


def recall(index: SearchIndex, other: SearchIndex | None, gallery: str, queries: EncodedQueries) -> Iterator[list[str]]:
    """Yields the row of a table for each number of candidates that the gallery exceeds, and that of the other index."""
    total, best_QT = index.gallery(gallery).total, exhaustive(index, gallery, queries)
    if other is not None:
        other_QT = exhaustive(other, gallery, queries)
        kept_QT = np.stack([np.isin(best, found) for best, found in zip(best_QT, other_QT, strict=True)])
        fractions = [f"{100 * (best_QT[:, 0] == other_QT[:, 0]).mean():.1f} %", f"{100 * kept_QT.mean():.2f} %"]
        yield [gallery, f"{total:,}", "all, of the other index", *fractions, "all"]
    for candidates in CANDIDATES:
        if candidates >= total:
            return
        found_QK = index.candidates(gallery, queries, candidates).rows_QK
        kept_QT = np.stack([np.isin(best, found) for best, found in zip(best_QT, found_QK, strict=True)])
        fractions = [f"{100 * kept_QT[:, 0].mean():.1f} %", f"{100 * kept_QT.mean():.2f} %"]
        yield [gallery, f"{total:,}", str(candidates), *fractions, f"1/{total / candidates:,.0f}"]


def captioned_rows(index: SearchIndex, split: str, queries: int) -> NDArray[np.int64]:
    """Returns the rows of photos of the split that have captions, spread evenly over it."""
    held = index.gallery("photos")
    inside = np.concatenate([p.start + np.flatnonzero(p.allowed(Filter(split))) for p in held.partitions])
    chosen = inside[np.linspace(0, len(inside) - 1, min(queries, len(inside))).astype(int)]
    return np.array([row for row in chosen if held.item(int(row)).captions], np.int64)


def measure(index: SearchIndex, split: str, queries: int, other: SearchIndex | None = None) -> list[list[str]]:
    """Returns the rows of the table for both directions. Photos without captions do not query."""
    captioned = captioned_rows(index, split, queries)
    rows = list(recall(index, other, "photos", caption_queries(index, captioned)))
    if "captions" in index.document.galleries:
        rows += recall(index, other, "captions", photo_queries(index, captioned))
    return rows


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.search_recall", description=__doc__)
    parser.add_argument("index")
    parser.add_argument("--split", default="test")
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--other")
    arguments = parser.parse_args()
    index, other = opened(arguments.index), None if arguments.other is None else opened(arguments.other)
    print(Table("recall of candidates", HEADER, measure(index, arguments.split, arguments.queries, other)).markdown())


def opened(uri: str) -> SearchIndex:
    """Opens an index with the model that it records."""
    store, document = read_index_document(uri)
    return SearchIndex.of(store, document, load_version(document.model.uri, TrackingConfig()))


if __name__ == "__main__":
    main()
