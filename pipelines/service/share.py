"""A share of an index in a process: it holds some partitions and the model, and runs searches over all shares.

Any share can run a search: it encodes the query, asks the others, and merges. With one share everything happens in its
process. Queries that arrive while another batch is computed form the next batch.
"""

import asyncio
import os
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import cached_property
from threading import Event
from typing import Any, TypeVar
from urllib.parse import quote

import numpy as np
import torch
from numpy.typing import NDArray
from ray import serve

import infra.tracking
from infra.redaction import redact
from infra.storage.process_folder import ProcessFolder
from infra.tracking import TrackingConfig
from pipelines.models.load import is_registered, load_model
from pipelines.search.gallery import Filter
from pipelines.search.hits import Explanation, Hit, explain_pair
from pipelines.search.index import EncodedQueries, RankedRows, SearchIndex
from pipelines.search.index_format import IndexDocument, read_index_document
from pipelines.service.calls import retried
from pipelines.service.errors import several
from pipelines.service.events import traced
from pipelines.service.generation import FOLDERS, SHARE, Generation
from pipelines.service.local_copy import copy_partitions
from pipelines.service.ranking import Found, Ranked, ShareClient, ShareQuery, SilentShares, search
from pipelines.service.thumbnail import Thumbnail, read_thumbnail

BATCH = 16
"""Queries whose candidates are searched at a time."""
READERS = 2
"""Thumbnails that are read and decoded at a time."""
T = TypeVar("T")


class Share:
    """The Ray Serve deployment of one share, of `shares` in all."""

    def __init__(
        self, generation: Generation, number: int, shares: int, tracking: TrackingConfig, device: str, *_others: Any
    ) -> None:
        """`_others` are the other deployments of the application, which Serve starts because they are named here."""
        self._folder = ProcessFolder(FOLDERS)
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        store, document = read_index_document(generation.index)
        connected = infra.tracking.require_store(tracking) if is_registered(generation.model) else None
        self._model_page = None if connected is None else version_page(connected.uri, generation.model)
        model = load_model(connected, generation.model, device)
        self._generation, self._number, self._shares = generation, number, shares
        self._document = document
        partitions = partitions_of(document, number, shares)
        copy = copy_partitions(store, document, partitions, self._folder.path)
        self._index = SearchIndex.of(copy, document, model, partitions)
        self._index.hold()
        self._silent = SilentShares()
        self._thread, self._readers = ThreadPoolExecutor(1), ThreadPoolExecutor(READERS)

    def __del__(self) -> None:
        """Removes the copy of the partitions; Ray Serve calls this before it kills the process."""
        self._folder.remove()

    async def describe(self) -> dict[str, Any]:
        """Returns what the gallery is, for the router."""
        galleries = {name: gallery.items for name, gallery in self._document.galleries.items()}
        partitions = [p for gallery in self._document.galleries.values() for p in gallery.partitions]
        index, model = self._generation.index, self._generation.model
        return {
            "index": index,
            "model": model,
            "items": galleries,
            "splits": sorted({partition.split for partition in partitions}),
            "shares": self._shares,
            "links": {"model": self._model_page},
            "names": {"model": model if is_registered(model) else name_of(model), "index": name_of(index)},
        }

    @traced
    async def search(
        self,
        query: str | NDArray[Any],
        k: int,
        candidates: int,
        where: tuple[str | None, str] | None,
        explain: bool,
        seconds: float,
    ) -> dict[str, Any]:
        """Returns the best photos of all shares for a sentence, or the best captions for a photo's regions R x F.

        `where` is a split and a prefix of keys. The result is a JSON value.
        """
        is_text, start = isinstance(query, str), time.monotonic()
        queries = await self.encode(query)
        encoded = {"encode": time.monotonic() - start}
        gallery = "photos" if is_text else "captions"
        filter_ = None if where is None else Filter(*where)
        sentence, items = query if isinstance(query, str) else None, self._index.gallery(gallery).total
        share_query = ShareQuery(gallery, queries, k, candidates, filter_, sentence, items)
        asked = self._silent.others(self._clients)
        found = await search(asked, share_query, seconds - encoded["encode"], explain)
        self._silent.record(asked, found.missing)
        missing = {*found.missing, *(self._clients.keys() - asked.keys())}
        return found_document(replace(found, missing=tuple(sorted(missing)), stages={**encoded, **found.stages}))

    @traced
    async def encode(self, query: str | NDArray[Any]) -> EncodedQueries:
        """Returns the encoding of a sentence, or of a photo's regions R x F."""
        if isinstance(query, str):
            encoded: EncodedQueries = await self._encoded(query)
            return encoded
        return await self._computed(lambda: self._index.encode_photos([query]))

    @traced
    async def candidates(self, query: ShareQuery) -> RankedRows:
        """Returns the nearest items of this share."""
        found: RankedRows = await self._near(query)
        return found

    @traced
    async def rerank(self, query: ShareQuery, candidates: RankedRows) -> Ranked:
        """Returns the best of the candidates that this share holds. If the caller leaves, scoring stops, too."""
        left = Event()

        def scored() -> Ranked:
            ranking = self._index.rerank(query.gallery, query.queries, candidates, query.k, left)
            pairs = zip(ranking.rows_QK[0].tolist(), ranking.scores_QK[0].tolist(), strict=True)
            hits = [self._index.hit(query.gallery, row, score, query.sentence) for row, score in pairs if row >= 0]
            return Ranked(ranking, tuple(hits))

        try:
            return await self._computed(scored)
        finally:
            left.set()

    @traced
    async def explain(self, sentence: str, hits: Sequence[Hit]) -> list[Explanation]:
        """Explains photos of this share."""
        return await self._computed(lambda: [self._index.explain(sentence, hit) for hit in hits])

    @traced
    async def score_key(self, sentence: str, key: str, dataset: str | None) -> dict[str, Any] | None:
        """Returns the hit of a sentence and a photo of this share, explained; None if it has no such key.

        Raises ServiceError if several data sets have the key.
        """

        def scored() -> dict[str, Any] | None:
            row = self._row_of(key, dataset)
            if row is None:
                return None
            queries = self._index.encode_sentences([sentence])
            candidates = RankedRows(np.array([[row]]), np.zeros((1, 1), np.float32))
            ranking = self._index.rerank("photos", queries, candidates, 1)
            hit = self._index.hit("photos", row, float(ranking.scores_QK[0, 0]), sentence)
            return hit_document(hit) | {"explanation": asdict(self._index.explain(sentence, hit))}

        return await self._computed(scored)

    @traced
    async def photo(self, key: str, dataset: str | None) -> Thumbnail | None:
        """Returns the thumbnail of a photo of this share; None if it has no such key.

        Raises ServiceError if several data sets have the key, and if the photo cannot be read.
        """
        row = self._row_of(key, dataset)
        if row is None:
            return None
        location = self._index.hit("photos", row, 0).photo
        return await asyncio.get_running_loop().run_in_executor(self._readers, read_thumbnail, location)

    @traced
    async def score_photo(
        self, sentence: str, regions_RF: NDArray[Any], boxes_R4: NDArray[np.float32]
    ) -> dict[str, Any]:
        """Returns the exact score of a sentence with a photo that a client sent, explained."""

        @torch.inference_mode()
        def scored() -> dict[str, Any]:
            (regions_RD,) = self._index.encode_photos([regions_RF]).items
            words = self._index.encode_sentences([sentence]).items
            score = float(self._index.shan.alignment(regions_RD[None], list(words))[0, 0])
            why = explain_pair(self._index.shan, regions_RD, boxes_R4, sentence)
            return {"score": score, "explanation": asdict(why)}

        return await self._computed(scored)

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=0)
    async def _encoded(self, sentences: list[str]) -> list[EncodedQueries]:
        queries = await self._computed(lambda: self._index.encode_sentences(sentences))
        pooled = queries.pooled_QD
        return [EncodedQueries([item], pooled[q : q + 1]) for q, item in enumerate(queries.items)]

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=0)
    async def _near(self, batch: list[ShareQuery]) -> list[RankedRows]:
        return await self._computed(lambda: candidates_of(self._index, batch))

    def _row_of(self, key: str, dataset: str | None) -> int | None:
        """Returns the row of the photo with a key; None without one. Raises ServiceError for several."""
        rows = self._index.gallery("photos").rows_of(key, dataset)
        if len(rows) > 1:
            raise several(len(rows), key)
        return int(rows[0]) if len(rows) else None

    async def _computed(self, function: Callable[[], T]) -> T:
        """Runs a function in the thread of the model, so that the process responds meanwhile."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    @cached_property
    def _clients(self) -> dict[int, ShareClient]:
        """This share, and handles of the others."""
        application = serve.get_replica_context().app_name
        return {n: self if n == self._number else _Remote(application, n) for n in range(self._shares)}


class _Remote:
    """A share in another process."""

    def __init__(self, application: str, number: int) -> None:
        self._handle = serve.get_deployment_handle(f"{SHARE}-{number}", application)

    async def candidates(self, query: ShareQuery) -> RankedRows:
        return await self._call("candidates", query)

    async def rerank(self, query: ShareQuery, candidates: RankedRows) -> Ranked:
        return await self._call("rerank", query, candidates)

    async def explain(self, sentence: str, hits: Sequence[Hit]) -> list[Explanation]:
        return await self._call("explain", sentence, hits)

    async def _call(self, method: str, *arguments: Any) -> Any:
        return await retried(lambda: getattr(self._handle, method).remote(*arguments))


def version_page(tracking: str, model: str) -> str | None:
    """Returns the URL of a version in the web interface of an MLflow server; None for a tracking store on a disk."""
    if not tracking.startswith(("http://", "https://")):
        return None
    name, _, version = model.removeprefix("models:/").rpartition("/")
    return f"{redact(tracking).rstrip('/')}/#/models/{quote(name, safe='')}/versions/{version}"


def name_of(uri: str) -> str:
    """Returns the last part of a URI."""
    return uri.rstrip("/").rpartition("/")[2]


def found_document(found: Found) -> dict[str, Any]:
    """Returns the result of a search as a JSON value."""
    hits = [{"rank": rank, **hit_document(hit)} for rank, hit in enumerate(found.hits, 1)]
    for hit, explanation in zip(hits, found.explanations, strict=False):
        hit["explanation"] = None if explanation is None else asdict(explanation)
    return {
        "hits": hits,
        "partial": bool(found.missing),
        "missing_shares": list(found.missing),
        "stages": dict(found.stages),
    }


def hit_document(hit: Hit) -> dict[str, Any]:
    """Returns a hit for clients: without its row, and without the location of the photo on the service's side."""
    shown = {name: value for name, value in asdict(hit).items() if name not in ("row", "photo")}
    return shown | {"source": shown_source(hit.source)}


def shown_source(source: str) -> str:
    """Returns the source of a photo for clients: of a URI the file name, without host, folders and query."""
    if "://" not in source:
        return source
    path = re.split("[?#]", source.partition("://")[2])[0]
    return path.partition("/")[2].rpartition("/")[2]


def partitions_of(document: IndexDocument, number: int, shares: int) -> list[str]:
    """Returns the partitions of a share: every `shares`th of each gallery, so that each has about as many items."""
    return [
        partition.name for gallery in document.galleries.values() for partition in gallery.partitions[number::shares]
    ]


def candidates_of(index: SearchIndex, batch: Sequence[ShareQuery]) -> list[RankedRows]:
    """Returns the candidates of several queries; those with the same filter and number are searched at once."""
    groups: dict[str, list[int]] = {}
    for at, query in enumerate(batch):
        where = query.where and asdict(query.where)
        group = repr((query.gallery, max(query.candidates, query.k), where, query.every_list))
        groups.setdefault(group, []).append(at)
    found: dict[int, RankedRows] = {}
    for positions in groups.values():
        first = batch[positions[0]]
        pooled_QD = np.concatenate([batch[at].queries.pooled_QD for at in positions])
        count = max(first.candidates, first.k)
        queries = EncodedQueries([], pooled_QD)
        ranking = index.candidates(first.gallery, queries, count, first.where, first.every_list)
        for q, at in enumerate(positions):
            found[at] = RankedRows(ranking.rows_QK[q : q + 1], ranking.scores_QK[q : q + 1])
    return [found[at] for at in range(len(batch))]
