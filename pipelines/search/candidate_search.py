"""Candidate search: the nearest items by the cosine of pooled vectors, with FAISS.

`flat` compares a query with every item of the loaded partitions. `ivf` assigns every item to the nearest of L
centroids, which all partitions share, and compares a query with the items of the nearest `probes` lists. Items of
several processes therefore have the candidates that one process with all of them would find.

Vectors are kept as float16. Shapes: N items, L lists, Q queries, K candidates of a query, D joint width.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.errors import UserError

IVF_FROM = 50_000
"""Items from which lists pay: below, comparing with all of them takes milliseconds."""
SAMPLES_PER_LIST = 64
"""Items per list from which the centroids are computed."""
ROUNDS = 10
"""Iterations of k-means."""
_CHUNK = 1 << 16
"""Rows that are converted to float32 at a time."""


def faiss() -> Any:
    """Returns the module. Raises UserError if it is not installed."""
    try:
        import faiss as module
    except ImportError as error:
        raise UserError(
            f"search indexes need FAISS, which cannot be imported ({error}); install it with pip install "
            "'shan-line[search]'"
        ) from error
    return module


def list_count(items: int) -> int:
    """Returns the number of lists for a gallery: the power of 2 nearest to 4 times the root of the number of items."""
    return int(2 ** round(math.log2(4 * math.sqrt(items))))


def probe_count(lists: int) -> int:
    """Returns the number of lists that a query is compared with: 8 times the square root of their number, at most all.

    A query then looks at about 4 N^(3/4) of N items. Measured: docs/results.md, "Recall as the gallery grows".
    """
    return min(round(8 * math.sqrt(lists)), lists)


def sample_rows(items: int, lists: int) -> NDArray[np.int64]:
    """Returns the rows, evenly spaced, from which the centroids of a gallery are computed."""
    return np.linspace(0, items - 1, min(items, SAMPLES_PER_LIST * lists)).astype(np.int64)


def compute_centroids(sample_ND: NDArray[np.float16], lists: int) -> NDArray[np.float32]:
    """Returns the centroids (L x D) of a sample by k-means on the sphere. Equal samples give equal centroids."""
    module = faiss()
    # A sample of fewer than 39 items per list makes FAISS print a warning, which a small gallery does not need.
    kmeans = module.Kmeans(
        sample_ND.shape[1], lists, niter=ROUNDS, seed=0, spherical=True, min_points_per_centroid=1,
        max_points_per_centroid=SAMPLES_PER_LIST,
    )  # fmt: skip
    kmeans.train(sample_ND.astype(np.float32))
    found: NDArray[np.float32] = kmeans.centroids
    return found


def assign(pooled_ND: NDArray[np.float16], centroids_LD: NDArray[np.float32]) -> NDArray[np.int32]:
    """Returns the list of every item, that of the nearest centroid."""
    quantizer = _quantizer(centroids_LD)
    parts = [quantizer.search(chunk, 1)[1][:, 0] for chunk in _chunks(pooled_ND)]
    return np.concatenate([np.empty(0, np.int64), *parts]).astype(np.int32)


class CandidateIndex:
    """Finds the nearest of N items, those of the partitions that a process holds."""

    def __init__(
        self,
        width: int,
        pooled: Sequence[NDArray[np.float16]],
        centroids_LD: NDArray[np.float32] | None = None,
        lists: Sequence[NDArray[np.int32]] = (),
        probes: int = 0,
    ) -> None:
        """Takes the pooled vectors of each partition; for `ivf` also the centroids, and the lists of each partition."""
        self._faiss, self._probes = faiss(), probes
        half, metric = self._faiss.ScalarQuantizer.QT_fp16, self._faiss.METRIC_INNER_PRODUCT
        self._lists = 0 if centroids_LD is None else len(centroids_LD)
        if centroids_LD is None:
            self._index = self._faiss.IndexScalarQuantizer(width, half, metric)
        else:
            self._coarse = _quantizer(centroids_LD)  # the index refers to it
            self._index = self._faiss.IndexIVFScalarQuantizer(self._coarse, width, self._lists, half, metric, False)
            self._index.is_trained = True  # float16 has no parameters
        for number, pooled_ND in enumerate(pooled):
            at = 0
            for chunk in _chunks(pooled_ND):
                self._add(chunk, lists[number][at : at + len(chunk)] if self._lists else None)
                at += len(chunk)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def search(
        self,
        queries_QD: NDArray[np.float32],
        count: int,
        allowed_N: NDArray[np.bool_] | None = None,
        every_list: bool = False,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Returns the items (Q x K) with the highest cosines, best first, and the cosines; -1 where there are fewer.

        K is `count`, or N if that is less. With `allowed_N`, only these items are found. With that or `every_list`, all
        lists are compared, otherwise `probes`, which may have fewer than K items.
        """
        module, options = self._faiss, {}
        count = min(count, len(self))
        if not count:
            return np.empty((len(queries_QD), 0), np.int64), np.empty((len(queries_QD), 0), np.float32)
        if allowed_N is not None:
            bits = np.packbits(allowed_N, bitorder="little")
            options["sel"] = module.IDSelectorBitmap(bits)
        if self._lists:
            probes = self._lists if every_list or allowed_N is not None else min(self._probes, self._lists)
            parameters = module.SearchParametersIVF(nprobe=probes, **options)
        else:
            parameters = module.SearchParameters(**options)
        cosines, items = self._index.search(np.ascontiguousarray(queries_QD, np.float32), count, params=parameters)
        return items, cosines

    def _add(self, chunk_ND: NDArray[np.float32], lists_N: NDArray[np.int32] | None) -> None:
        if lists_N is None:
            self._index.add(chunk_ND)
            return
        pointer = self._faiss.swig_ptr
        ids, assigned = np.arange(len(self), len(self) + len(chunk_ND)), lists_N.astype(np.int64)
        self._index.add_core(len(chunk_ND), pointer(chunk_ND), pointer(ids), pointer(assigned))


def _quantizer(centroids_LD: NDArray[np.float32]) -> Any:
    quantizer = faiss().IndexFlatIP(centroids_LD.shape[1])
    quantizer.add(np.ascontiguousarray(centroids_LD, np.float32))
    return quantizer


def _chunks(pooled_ND: NDArray[np.float16]) -> Iterator[NDArray[np.float32]]:
    """Yields the rows as float32, some at a time."""
    for at in range(0, len(pooled_ND), _CHUNK):
        yield np.ascontiguousarray(pooled_ND[at : at + _CHUNK], np.float32)
