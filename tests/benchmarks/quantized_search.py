"""Candidate search with other settings than an index has: recall of the exact results, and time.

Two tables: quantized vectors beside the float16 of indexes, and numbers of probes up to all lists.

    python -m tests.benchmarks.quantized_search INDEX [--queries 50] [--split test]

Captions of photos of the split query the photos of an index whose candidate search is `ivf`. Every search has as many
lists as the index has, and in the first table as many probes. Times are of one query at a time in one thread.
"""

import argparse
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.reports.tables import Table
from pipelines.search.candidate_search import faiss, list_count, sample_rows
from pipelines.search.candidate_search_build import read_pooled
from pipelines.search.index import EncodedQueries
from pipelines.search.index_format import read_index_document
from tests.benchmarks.search_recall import caption_queries, captioned_rows, exhaustive, opened

CANDIDATES = (100, 250, 600)
MEASURED = ["ms per query", *(f"exact top 10 among {count}" for count in CANDIDATES)]


def forms(width: int) -> list[str]:
    """Returns FAISS's names of the stored vectors: scalars of 2 bytes and 1 byte, then product quantization."""
    return ["SQfp16", "SQ8", *(f"PQ{width // divisor}" for divisor in (2, 4, 8))]


def build(form: str, pooled_ND: NDArray[np.float32]) -> Any:
    """Returns FAISS's index of vectors in one form, with the lists that a build would choose."""
    items, width = pooled_ND.shape
    lists = list_count(items)
    index = faiss().index_factory(width, f"IVF{lists},{form}", faiss().METRIC_INNER_PRODUCT)
    index.train(pooled_ND[sample_rows(items, lists)])
    index.add(pooled_ND)
    return index


def measure(index: Any, probes: int, queries: EncodedQueries, best_QT: NDArray[np.int64]) -> list[str]:
    """Returns milliseconds per query, and the recall for each of CANDIDATES."""
    index.nprobe = probes
    start = time.perf_counter()
    found = [index.search(query_D[None], max(CANDIDATES))[1][0] for query_D in queries.pooled_QD]
    ms = 1000 * (time.perf_counter() - start) / len(found)
    recalls = [
        np.mean([np.isin(best, rows[:count]) for best, rows in zip(best_QT, found, strict=True)])
        for count in CANDIDATES
    ]
    return [f"{ms:.2f}", *(f"{100 * recall:.1f} %" for recall in recalls)]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.quantized_search", description=__doc__)
    parser.add_argument("index")
    parser.add_argument("--split", default="test")
    parser.add_argument("--queries", type=int, default=50)
    arguments = parser.parse_args()
    store, document = read_index_document(arguments.index)
    gallery = document.galleries["photos"]
    index = opened(arguments.index)
    queries = caption_queries(index, captioned_rows(index, arguments.split, arguments.queries))
    best_QT = exhaustive(index, "photos", queries)
    faiss().omp_set_num_threads(1)
    pooled_ND = np.concatenate([read_pooled(store, partition) for partition in gallery.partitions]).astype(np.float32)
    name, own = f"{len(pooled_ND):,} photos, {len(queries.items)} queries", gallery.first_stage.probes
    built = {form: build(form, pooled_ND) for form in forms(pooled_ND.shape[1])}
    rows = [[form, str(found.code_size), *measure(found, own, queries, best_QT)] for form, found in built.items()]
    print(Table(name, ["vectors", "bytes per photo", *MEASURED], rows).markdown())
    lists = built["SQfp16"].nlist
    tried = [own * 2**power for power in range(20) if own * 2**power < lists]
    rows = [[f"{probes} of {lists}", *measure(built["SQfp16"], probes, queries, best_QT)] for probes in [*tried, lists]]
    print(Table(f"{name}, SQfp16", ["probes", *MEASURED], rows).markdown())


if __name__ == "__main__":
    main()
