"""Searches an index: candidates by their pooled vectors, then the exact score of each.

    index = SearchIndex.open("s3://b/indexes/flickr30k-0123456789ab", model)
    index.search_photos(["a dog runs on the beach"], k=10)
    index.search_captions([regions_RF], k=10)

Scores are exact: each is that of the model for the stored encodings. A process may hold some partitions only.
`candidates` of several processes are merged by `merge`, each process scores those that it holds with `rerank`, and
`merge` of the rankings is the ranking of one process with all partitions.

Shapes: Q queries, K candidates, R regions, F feature width, W words, N_k vectors of an item, D joint width.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError
from threading import Event
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from infra.errors import UserError
from infra.source_tree import program
from infra.storage.base import Store
from pipelines.datasets.photo_sources import photo_uri
from pipelines.models.load import LoadedModel
from pipelines.search.config import CANDIDATES, MAX_CHARACTERS, MAX_WORDS
from pipelines.search.gallery import Filter, HeldGallery
from pipelines.search.hits import Explanation, Hit, explain_pair
from pipelines.search.index_format import IndexDocument, read_index_document
from shan_model.model import SHAN
from shan_model.vocabulary import tokenize

SCORED_AT_ONCE = 256
"""Candidates whose encodings are in memory at a time."""


class RankedRows(NamedTuple):
    """K items of each of Q queries, best first. Where there are fewer, the row is -1 and the score -inf."""

    rows_QK: NDArray[np.int64]
    """Rows of the gallery."""
    scores_QK: NDArray[np.float32]
    """Cosines of pooled vectors for candidates, exact scores after reranking."""


class EncodedQueries(NamedTuple):
    """Encoded queries."""

    items: Sequence[Tensor]
    """W x D or R x D each."""
    pooled_QD: NDArray[np.float32]


def merge(rankings: Iterable[RankedRows], count: int) -> RankedRows:
    """Returns the best `count` items of each query among several rankings. Of equal scores, the lower row is first."""
    parts = list(rankings)
    rows_QK = np.concatenate([part.rows_QK for part in parts], axis=1)
    scores_QK = np.concatenate([part.scores_QK for part in parts], axis=1)
    order_QK = np.lexsort((rows_QK, -scores_QK), axis=1)[:, :count]
    return RankedRows(np.take_along_axis(rows_QK, order_QK, axis=1), np.take_along_axis(scores_QK, order_QK, axis=1))


def too_few(candidates: RankedRows, count: int) -> NDArray[np.bool_]:
    """Returns for each of Q queries whether it has fewer candidates: the lists that were compared had no more."""
    few_Q: NDArray[np.bool_] = (candidates.rows_QK >= 0).sum(axis=1) < count
    return few_Q


class SearchIndex:
    """An open index, or some of its partitions. `open` opens one."""

    def __init__(self, document: IndexDocument, shan: SHAN, galleries: Mapping[str, HeldGallery]) -> None:
        self.document, self.shan, self._galleries = document, shan, galleries
        self._roots = {features.dataset: features.photo_root for features in document.features}

    @classmethod
    def open(cls, uri: str, model: LoadedModel, partitions: Sequence[str] | None = None) -> "SearchIndex":
        """Opens an index with the model that encoded it; `<uri>@<12 hex>` is the snapshot with that digest.

        `partitions` names those to hold; None holds all. Raises UserError for another model, without a finished
        index, and if an object is missing or corrupt.
        """
        store, document = read_index_document(uri)
        return cls.of(store, document, model, partitions)

    @classmethod
    def of(
        cls, store: Store, document: IndexDocument, model: LoadedModel, partitions: Sequence[str] | None = None
    ) -> "SearchIndex":
        """Opens an index whose document was read before. Raises as `open`."""
        if model.digest != document.model.digest:
            encoder = document.model
            raise UserError(
                f"{store.uri} was encoded by {encoder.uri} (digest {encoder.digest[:12]}), not {model.uri} (digest "
                f"{model.digest[:12]}); pass --model {encoder.uri}, omit --model, or build an index with "
                f"`{program('index')} --model {model.uri}`"
            )
        galleries = {
            name: HeldGallery(store, name, gallery, partitions) for name, gallery in document.galleries.items()
        }
        return cls(document, model.shan, galleries)

    def hold(self) -> None:
        """Maps all files of an index in a folder, so that searches continue after they were moved or deleted."""
        for gallery in self._galleries.values():
            for partition in gallery.partitions:
                partition.vectors.hold()
                partition.boxes.hold()

    def search_photos(
        self, sentences: Sequence[str], k: int = 10, candidates: int = CANDIDATES, where: Filter | None = None
    ) -> list[list[Hit]]:
        """Returns the best k photos for each sentence. Raises UserError for an empty sentence or no photos."""
        found = self._search("photos", self.encode_sentences(sentences), k, candidates, where)
        return [
            [self.hit("photos", row, score, sentence) for row, score in ranked]
            for sentence, ranked in zip(sentences, found, strict=True)
        ]

    def search_captions(
        self,
        photos: Sequence[NDArray[Any]],
        k: int = 10,
        candidates: int = CANDIDATES,
        where: Filter | None = None,
    ) -> list[list[Hit]]:
        """Returns the best k captions for each photo, given by its region features R x F."""
        found = self._search("captions", self.encode_photos(photos), k, candidates, where)
        return [[self.hit("captions", row, score) for row, score in ranked] for ranked in found]

    @torch.inference_mode()
    def encode_sentences(self, sentences: Sequence[str]) -> EncodedQueries:
        """Encodes text queries. Raises UserError for one that is empty or too long."""
        require_sentences(sentences)
        items = list(self.shan.encode_captions(sentences)) if sentences else []
        return self._queries(items, self.shan.alignment.pooled_captions)

    @torch.inference_mode()
    def encode_photos(self, photos: Sequence[NDArray[Any]]) -> EncodedQueries:
        """Encodes photos, given by their region features R x F. Raises UserError for unusable features."""
        require_regions(photos, self.shan.config.region_dim)
        tensors = [torch.from_numpy(np.array(regions_RF)).to(self.shan.device) for regions_RF in photos]
        items = [self.shan.encode_photos(regions_RF[None])[0] for regions_RF in tensors]
        return self._queries(items, self.shan.alignment.pooled_photos)

    def candidates(
        self,
        gallery: str,
        queries: EncodedQueries,
        count: int,
        where: Filter | None = None,
        every_list: bool = False,
    ) -> RankedRows:
        """Returns the `count` nearest items held, by the cosine of pooled vectors.

        Fewer if the lists that are compared have fewer; `every_list` compares all.
        """
        return RankedRows(*self.gallery(gallery).nearest(queries.pooled_QD, count, where, every_list))

    @torch.inference_mode()
    def rerank(
        self, gallery: str, queries: EncodedQueries, candidates: RankedRows, k: int, stopped: Event | None = None
    ) -> RankedRows:
        """Returns the best k of the candidates that this process holds, by their exact score.

        Raises CancelledError as soon as another thread has set `stopped`.
        """
        held, parts = self.gallery(gallery), []
        for q, rows_K in enumerate(candidates.rows_QK):
            rows, scores = rows_K[held.holds(rows_K)], []
            for at in range(0, len(rows), SCORED_AT_ONCE):
                if stopped and stopped.is_set():
                    raise CancelledError
                chunk = rows[at : at + SCORED_AT_ONCE]
                scores.append(self.exact_scores(gallery, queries.items[q : q + 1], chunk)[0])
            found = np.full(candidates.rows_QK.shape[1], -np.inf, np.float32)
            found[: len(rows)] = np.concatenate([np.empty(0, np.float32), *scores])
            padded = np.full(len(found), -1, np.int64)
            padded[: len(rows)] = rows
            parts.append(merge([RankedRows(padded[None], found[None])], k))
        if not parts:
            return RankedRows(np.empty((0, 0), np.int64), np.empty((0, 0), np.float32))
        return RankedRows(np.concatenate([p.rows_QK for p in parts]), np.concatenate([p.scores_QK for p in parts]))

    @torch.inference_mode()
    def exact_scores(self, gallery: str, queries: Sequence[Tensor], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Returns the exact scores Q x K of queries, W x D or R x D each, with items that this process holds."""
        alignment, device = self.shan.alignment, self.shan.device
        items = [vectors.to(device) for vectors in self.gallery(gallery).vectors(rows)]
        if gallery == "photos":
            scores = alignment.score_block(alignment.photo_groups(_stacked(items)), alignment.caption_groups(queries)).T
        else:
            scores = alignment.score_block(alignment.photo_groups(_stacked(queries)), alignment.caption_groups(items))
        found: NDArray[np.float32] = scores.float().cpu().numpy()
        return found

    def hit(self, gallery: str, row: int, score: float, query: str | None = None) -> Hit:
        """Returns the hit of an item that this process holds."""
        item = self.gallery(gallery).item(row)
        photo = photo_uri(self._roots[item.dataset], item.source)
        located = (item.dataset, item.split, item.key, item.source, photo, item.captions)
        return Hit(row, score, *located, query in item.captions)

    def explain(self, sentence: str, hit: Hit) -> Explanation:
        """Explains why a photo that `search_photos` found has its score."""
        held = self.gallery("photos")
        (regions_RD,) = held.vectors(np.array([hit.row]))
        return explain_pair(self.shan, regions_RD.to(self.shan.device), held.boxes(hit.row), sentence)

    def gallery(self, name: str) -> HeldGallery:
        """Returns a gallery. Raises UserError if the index does not have it."""
        if name not in self._galleries:
            others = " and ".join(self._galleries)
            raise UserError(
                f"the index has no {name}, only {others}; build it with `{program('index')} --index.galleries both`"
            )
        return self._galleries[name]

    def _queries(self, items: Sequence[Tensor], pooled: Callable[[Sequence[Tensor]], Tensor]) -> EncodedQueries:
        if not items:
            return EncodedQueries([], np.empty((0, self.shan.config.joint_dim), np.float32))
        return EncodedQueries(items, pooled(items).float().cpu().numpy())

    def _search(
        self, gallery: str, queries: EncodedQueries, k: int, candidates: int, where: Filter | None
    ) -> list[list[tuple[int, float]]]:
        """Returns the rows and exact scores of the best k items for each query."""
        if k < 1 or candidates < 1:
            raise UserError(f"k is {k} and candidates is {candidates}; each must be at least 1")
        count, held = max(candidates, k), len(self.gallery(gallery))
        nearest = self.candidates(gallery, queries, count, where)
        short_Q = too_few(nearest, min(count, held)) if where is None else np.zeros(len(queries.items), np.bool_)
        if short_Q.any():
            short = EncodedQueries([], queries.pooled_QD[short_Q])
            every = self.candidates(gallery, short, count, every_list=True)
            nearest.rows_QK[short_Q], nearest.scores_QK[short_Q] = every
        ranking = self.rerank(gallery, queries, nearest, k)
        return [
            [(row, score) for row, score in zip(rows, scores, strict=True) if row >= 0]
            for rows, scores in zip(ranking.rows_QK.tolist(), ranking.scores_QK.tolist(), strict=True)
        ]


def sentence_problem(sentence: str) -> str | None:
    """Returns why a text query cannot be used, as a part of messages; None if it can."""
    if not sentence.strip():
        return "is empty; give a sentence"
    if len(sentence) > MAX_CHARACTERS:
        return f"has {len(sentence)} characters; give at most {MAX_CHARACTERS}"
    words = len(tokenize(sentence))
    if words > MAX_WORDS:
        return f"has {words} words; give at most {MAX_WORDS}"
    return None if words else "has no word; give text with a letter or a digit"


def require_sentences(sentences: Sequence[str]) -> None:
    """Raises UserError for a text query that is empty, is too long or has no word."""
    for number, sentence in enumerate(sentences, 1):
        if problem := sentence_problem(sentence):
            raise UserError(f"query {number} {problem}")


def require_regions(photos: Sequence[NDArray[Any]], width: int) -> None:
    """Raises UserError for region features that are not R x `width`, or not finite."""
    for number, regions_RF in enumerate(photos, 1):
        if regions_RF.ndim != 2 or regions_RF.shape[1] != width or not len(regions_RF):
            raise UserError(
                f"photo {number} has region features of shape {regions_RF.shape}; the model needs R x {width}"
            )
        if not np.isfinite(regions_RF).all():
            raise UserError(f"photo {number} has region features that are NaN or infinite; give finite numbers")


def _stacked(items: Sequence[Tensor]) -> Sequence[Tensor] | Tensor:
    """Returns one tensor if all items have the same number of vectors, which saves copies."""
    return torch.stack(list(items)) if len({len(item) for item in items}) == 1 else items
