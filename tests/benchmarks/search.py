"""Search on an index of synthetic photos: recall of the exact top results against candidates, and time of a query.

    python -m tests.benchmarks.search [--photos 10000 100000] [--queries 200]

Not part of `make bench`. Each gallery is compared with exhaustive exact scoring of all of its photos, and with FAISS
alone. Photos are mixtures of concepts with noise, captions name some of them, and the network attends by cosine, so
that the pooled cosine is as related to the score as it is on photos. One thread.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from infra.storage.folder import FolderStore
from pipelines.models.load import LoadedModel
from pipelines.reports.tables import Table
from pipelines.search.candidate_search import IVF_FROM, list_count, probe_count
from pipelines.search.candidate_search_build import write_centroids, write_lists
from pipelines.search.index import EncodedQueries, SearchIndex
from pipelines.search.index_format import CandidateSearch, Gallery, IndexDocument, IndexedFeatures, IndexedModel
from pipelines.search.layout import centroids_name
from pipelines.search.partition import Partition
from pipelines.search.partition_writer import PartitionFiles, commit_partition
from shan_model.batched_matcher import mean_directions
from shan_model.config import ModelConfig
from shan_model.model import SHAN
from shan_model.vocabulary import Vocabulary
from tests.benchmarks.measure import gib, in_fresh_process

WIDTH, REGIONS, CONCEPTS, COMMON, WORDS = 256, 36, 4000, 60, 12
IDENTITY = "0" * 64
CANDIDATES = (10, 20, 50, 100, 250, 500)
TIMED = 100
"""Candidates of a timed query."""
COMPARED_PAIRS = 5_000_000
"""Pairs that are scored exhaustively at most, for 5 to 20 of the queries."""


def network() -> SHAN:
    """Returns a SHAN whose affinity is the cosine, as it is near the start of a training."""
    torch.manual_seed(0)
    shan = SHAN(ModelConfig(region_dim=8, joint_dim=WIDTH, word_dim=8), Vocabulary.build(["a"])).eval()
    with torch.no_grad():
        for linear in (shan.alignment.project_regions, shan.alignment.project_words):
            linear.weight.copy_(torch.eye(WIDTH))
    return shan


class World:
    """Concepts, of which photos show some and captions name some."""

    def __init__(self) -> None:
        self._draw = torch.Generator().manual_seed(0)
        self._concepts = normalize(torch.randn(CONCEPTS, WIDTH, generator=self._draw), dim=1)

    def photos(self, count: int) -> tuple[Tensor, Tensor]:
        """Returns encoded photos B x R x D and the eight concepts of each."""
        shown = torch.randint(COMMON, CONCEPTS, (count, 8), generator=self._draw)
        region = torch.randint(0, 8, (count, REGIONS), generator=self._draw)
        return self._noisy(self._concepts[shown.gather(1, region)], 0.08), shown

    def caption(self, shown: Tensor) -> Tensor:
        """Returns an encoded caption of a photo, W x D: four of its concepts, and common words."""
        words = torch.cat([shown[:4], torch.randint(0, COMMON, (WORDS - 4,), generator=self._draw)])
        return self._noisy(self._concepts[words], 0.06)

    def _noisy(self, vectors: Tensor, noise: float) -> Tensor:
        return normalize(vectors + noise * torch.randn(vectors.shape, generator=self._draw), dim=-1)


def write_gallery(store: FolderStore, photos: int, queries: int, size: int = 4096) -> tuple[Gallery, list[Tensor]]:
    """Writes partitions of synthetic photos. Returns the gallery, and captions of photos that are spread over it."""
    world, partitions, captions = World(), list[Partition](), list[Tensor]()
    asked = set(np.linspace(0, photos - 1, queries).astype(int).tolist())
    for number, start in enumerate(range(0, photos, size)):
        name = f"photos-gallery-{number:06d}-00000000"
        with tempfile.TemporaryDirectory() as folder:
            files = PartitionFiles(Path(folder), WIDTH)
            for at in range(start, min(start + size, photos), 256):
                encoded, shown = world.photos(min(256, start + size - at, photos - at))
                rows = [_row(row) for row in range(at, at + len(encoded))]
                files.add(list(encoded), mean_directions(encoded), [np.zeros((0, 4), np.float32)] * len(rows), rows)
                captions += [world.caption(shown[i]) for i in range(len(encoded)) if at + i in asked]
            partitions.append(commit_partition(store, name, "synthetic", (), files))
    return Gallery(tuple(partitions)), captions


def _row(row: int) -> dict[str, object]:
    return {"key": f"p{row}", "source": f"p{row}.jpg", "captions": [], "width": None, "height": None}


def with_lists(store: FolderStore, gallery: Gallery) -> Gallery:
    """Returns the gallery with the lists that a build would choose for its size."""
    lists = list_count(gallery.items)
    name = centroids_name("photos", IDENTITY)
    centroids = write_centroids(store, name, gallery.partitions, lists, 1)
    found = {p.name: write_lists(store, p, name, centroids, lists, IDENTITY, 1) for p in gallery.partitions}
    return replace(gallery, first_stage=CandidateSearch("ivf", probe_count(lists), IDENTITY, centroids, found))


def exact(index: SearchIndex, captions: list[Tensor]) -> Iterator[np.ndarray]:
    """Yields the exact scores of all photos with the captions, a block of photos at a time."""
    held, alignment = index.gallery("photos"), index.shan.alignment
    groups = alignment.caption_groups(captions)
    for start in range(0, held.total, 64):
        regions = torch.stack(held.vectors(np.arange(start, min(start + 64, held.total))))
        yield alignment.score_block(alignment.photo_groups(regions), groups).numpy()


def measure(photos: int, queries: int) -> tuple[list[str], list[list[str]]]:
    """Returns the row of times of a gallery, and its rows of recall."""
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        store = FolderStore(Path(folder))
        gallery, captions = write_gallery(store, photos, queries)
        start = time.perf_counter()
        gallery = with_lists(store, gallery) if photos >= IVF_FROM else gallery
        lists_s = time.perf_counter() - start
        features = [IndexedFeatures("synthetic", "synthetic", IDENTITY, "photos")]
        document = IndexDocument.build(IndexedModel("synthetic", IDENTITY, "synthetic"), features, {"photos": gallery})
        open_s, first_ms, query_ms, memory = in_fresh_process(_timed, folder, document, captions)
        index, compared = _open(folder, document), _some(captions, min(max(COMPARED_PAIRS // photos, 5), 20))
        start = time.perf_counter()
        scores_NQ = np.concatenate(list(exact(index, compared)))
        exact_s = (time.perf_counter() - start) / len(compared)
        best_QT = np.argsort(-scores_NQ.T, axis=1, kind="stable")[:, :10]
        rows = [_recall(index, [_query(caption) for caption in compared], best_QT, count) for count in CANDIDATES]
    times = [f"{photos:,}", gallery.first_stage.kind, f"{lists_s:.1f}", f"{open_s:.2f}"]
    times += [f"{first_ms[len(first_ms) // 2]:.2f}", f"{query_ms[len(query_ms) // 2]:.1f}"]
    return [*times, f"{query_ms[int(0.99 * len(query_ms))]:.1f}", *memory, f"{1000 * exact_s:,.0f}"], rows


def _open(folder: str, document: IndexDocument) -> SearchIndex:
    return SearchIndex.of(
        FolderStore(Path(folder)), document, LoadedModel("synthetic", network(), "synthetic", IDENTITY)
    )


def _some(captions: list[Tensor], count: int) -> list[Tensor]:
    return [captions[i] for i in np.linspace(0, len(captions) - 1, min(count, len(captions))).astype(int)]


def _query(caption: Tensor) -> EncodedQueries:
    return EncodedQueries([caption], mean_directions([caption]).numpy())


def _timed(
    folder: str, document: IndexDocument, captions: list[Tensor]
) -> tuple[float, list[float], list[float], list[str]]:
    """Returns the seconds to open the index, the milliseconds, sorted, of candidate search and of complete queries, and
    the memory of the process in GiB: at the end without mapped files, and the peak with them."""
    _one_thread()
    start = time.perf_counter()
    index = _open(folder, document)
    open_s = time.perf_counter() - start
    first, complete = [], []
    with torch.inference_mode():
        for query in map(_query, captions[:3] + captions):
            start = time.perf_counter()
            found = index.candidates("photos", query, TIMED)
            first.append(1000 * (time.perf_counter() - start))
            index.rerank("photos", query, found, 10)
            complete.append(1000 * (time.perf_counter() - start))
    return open_s, sorted(first[3:]), sorted(complete[3:]), [f"{gib(field):.2f}" for field in ("RssAnon", "VmHWM")]


def _one_thread() -> None:
    torch.set_num_threads(1)
    from pipelines.search.candidate_search import faiss

    faiss().omp_set_num_threads(1)


def _recall(index: SearchIndex, asked: list[EncodedQueries], best_QT: np.ndarray, count: int) -> list[str]:
    found = [index.candidates("photos", query, count).rows_QK[0] for query in asked]
    kept_QT = np.stack([np.isin(best, rows) for best, rows in zip(best_QT, found, strict=True)])
    gallery = index.gallery("photos").total
    return [
        f"{gallery:,}", str(count), f"{100 * kept_QT[:, 0].mean():.1f} %", f"{100 * kept_QT.mean():.1f} %",
        f"1/{gallery // count:,}",
    ]  # fmt: skip


def main() -> None:
    """Prints the two tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.search", description=__doc__)
    parser.add_argument("--photos", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--queries", type=int, default=200)
    arguments = parser.parse_args()
    _one_thread()
    times, recalls = [], []
    for photos in arguments.photos:
        row, rows = measure(photos, arguments.queries)
        times.append(row)
        recalls += rows
    header = ["photos", "candidates", "lists, s", "open, s", "FAISS alone, ms", f"query with {TIMED} candidates, ms"]
    header += [
        "99th percentile, ms",
        "memory, GiB",
        "with mapped files, at most",
        "exhaustive exact scoring, ms a query",
    ]
    print(Table(f"time of a query, D {WIDTH}, {REGIONS} regions, one thread", header, times).markdown())
    header = ["photos", "candidates", "recall of exact top 1", "recall of exact top 10", "pairs scored exactly"]
    print(Table("recall of the candidate search", header, recalls).markdown())


if __name__ == "__main__":
    main()
