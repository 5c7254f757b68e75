"""Searches over several shares: the ranking of one process, and partial results where a share is slow or lost."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ray.exceptions import ActorDiedError

from infra.storage.base import Store
from pipelines.features.feature_set import FeatureSet
from pipelines.models.load import LoadedModel
from pipelines.search.candidate_search_build import write_centroids, write_lists
from pipelines.search.gallery import Filter
from pipelines.search.hits import Explanation, Hit
from pipelines.search.index import RankedRows, SearchIndex
from pipelines.search.index_build import IndexBuild
from pipelines.search.index_format import CandidateSearch, IndexDocument
from pipelines.search.layout import centroids_name
from pipelines.service.errors import ServiceError
from pipelines.service.ranking import AGAIN_S, Found, Ranked, ShareQuery, SilentShares, search
from pipelines.service.share import candidates_of, partitions_of
from tests.support.indexes import build_here, loaded
from tests.support.small_models import small_set

SENTENCES = ("a photo of 7", "number 22 <again>", "none of these words", "犬")


class LocalShare:
    """A share in the test process, as `Share` is in one of Ray Serve."""

    def __init__(self, index: SearchIndex) -> None:
        self.index = index

    async def candidates(self, query: ShareQuery) -> RankedRows:
        return candidates_of(self.index, [query])[0]

    async def rerank(self, query: ShareQuery, candidates: RankedRows) -> Ranked:
        ranking = self.index.rerank(query.gallery, query.queries, candidates, query.k)
        pairs = zip(ranking.rows_QK[0].tolist(), ranking.scores_QK[0].tolist(), strict=True)
        return Ranked(ranking, tuple(self.index.hit(query.gallery, row, score) for row, score in pairs if row >= 0))

    async def explain(self, sentence: str, hits: Sequence[Hit]) -> list[Explanation]:
        return [self.index.explain(sentence, hit) for hit in hits]


class SlowShare(LocalShare):
    """A share that never responds with candidates."""

    async def candidates(self, query: ShareQuery) -> RankedRows:
        await asyncio.sleep(60)
        raise AssertionError


class LostShare(LocalShare):
    """A share whose process ends while it scores."""

    async def rerank(self, query: ShareQuery, candidates: RankedRows) -> Ranked:
        raise ActorDiedError


class FailingShare(LocalShare):
    """A share with a defect."""

    async def candidates(self, query: ShareQuery) -> RankedRows:
        raise ZeroDivisionError


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> FeatureSet:
    return small_set(tmp_path_factory.mktemp("features"), 60)


@pytest.fixture(scope="module")
def model(features: FeatureSet, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return loaded(tmp_path_factory.mktemp("model"), features)


@pytest.fixture(scope="module")
def built(features: FeatureSet, model: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> IndexBuild:
    return build_here(model, [features], tmp_path_factory.mktemp("indexes"))


@pytest.fixture(scope="module")
def shares(built: IndexBuild, model: LoadedModel) -> list[SearchIndex]:
    """All partitions, and then those of each of three shares."""
    return opened(built.store, built.document, model)


@pytest.fixture(scope="module")
def shares_with_lists(built: IndexBuild, model: LoadedModel) -> list[SearchIndex]:
    """The same with 4 lists of photos, of which one is compared with a query."""
    store, gallery, lists, identity = built.store, built.document.galleries["photos"], 4, "0" * 64
    name = centroids_name("photos", identity)
    centroids = write_centroids(store, name, gallery.partitions, lists, 1)
    found = {p.name: write_lists(store, p, name, centroids, lists, identity, 1) for p in gallery.partitions}
    gallery = replace(gallery, first_stage=CandidateSearch("ivf", 1, identity, centroids, found))
    document = IndexDocument.build(built.document.model, built.document.features, {"photos": gallery})
    return opened(store, document, model)


def opened(store: Store, document: IndexDocument, model: LoadedModel) -> list[SearchIndex]:
    parts = [partitions_of(document, number, 3) for number in range(3)]
    every = [p.name for gallery in document.galleries.values() for p in gallery.partitions]
    assert sorted(name for part in parts for name in part) == sorted(every)
    return [SearchIndex.of(store, document, model, part) for part in (None, *parts)]


def share_query(
    index: SearchIndex, sentence: str, k: int = 5, candidates: int = 9, where: Filter | None = None
) -> ShareQuery:
    items = index.gallery("photos").total
    return ShareQuery("photos", index.encode_sentences([sentence]), k, candidates, where, sentence, items)


def run(clients: Sequence[LocalShare], query: ShareQuery, seconds: float = 60, explain: bool = False) -> Found:
    return asyncio.run(search(dict(enumerate(clients)), query, seconds, explain))


def identified(hits: Sequence[Hit]) -> bytes:
    return repr([(hit.row, hit.key, hit.captions, hit.source) for hit in hits]).encode()


@pytest.mark.parametrize("where", [None, Filter("val"), Filter("train", "p1")])
@pytest.mark.parametrize("sentence", SENTENCES)
def test_three_shares_rank_as_one_process(shares: list[SearchIndex], sentence: str, where: Filter | None):
    alone, *parts = shares
    found = run([LocalShare(part) for part in parts], share_query(alone, sentence, where=where))
    (expected,) = alone.search_photos([sentence], 5, 9, where)
    assert identified(found.hits) == identified(expected)
    assert [hit.score for hit in found.hits] == pytest.approx([hit.score for hit in expected], abs=1e-6)
    assert found.missing == ()


@pytest.mark.parametrize("candidates", [3, 20, 40, 59])
@pytest.mark.parametrize("sentence", SENTENCES)
def test_shares_with_lists_rank_as_one_process(shares_with_lists: list[SearchIndex], sentence: str, candidates: int):
    """Some lists have fewer items than are asked for, and those of a share have fewer still."""
    alone, *parts = shares_with_lists
    found = run([LocalShare(part) for part in parts], share_query(alone, sentence, candidates, candidates))
    (expected,) = alone.search_photos([sentence], candidates, candidates)
    assert identified(found.hits) == identified(expected)
    assert len(found.hits) == candidates


def test_a_photo_ranks_captions_as_one_process(shares: list[SearchIndex], features: FeatureSet):
    alone, *parts = shares
    regions_RF = features.split("val")[[0]][0]
    query = ShareQuery("captions", alone.encode_photos([regions_RF]), 6, 20)
    found = run([LocalShare(part) for part in parts], query)
    assert identified(found.hits) == identified(alone.search_captions([regions_RF], 6, 20)[0])


def test_hits_are_explained_by_the_share_that_holds_them(shares: list[SearchIndex]):
    alone, *parts = shares
    found = run([LocalShare(part) for part in parts], share_query(alone, SENTENCES[0]), explain=True)
    assert found.explanations == tuple(alone.explain(SENTENCES[0], hit) for hit in found.hits)


@pytest.mark.parametrize(("kind", "seconds"), [(SlowShare, 2.0), (LostShare, 60)])
def test_a_share_without_a_response_is_left_out(shares: list[SearchIndex], kind: type[LocalShare], seconds: float):
    alone, first, second, third = shares
    query = share_query(alone, SENTENCES[0], k=60, candidates=60)
    found = run([LocalShare(first), kind(second), LocalShare(third)], query, seconds)
    assert found.missing == (1,)
    held = np.array(sorted(hit.row for hit in found.hits))
    assert not second.gallery("photos").holds(held).any()
    assert len(held) == len(first.gallery("photos")) + len(third.gallery("photos"))


def test_one_query_at_a_time_tries_a_silent_share(shares: list[SearchIndex], monkeypatch: pytest.MonkeyPatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    clients, silent = dict(enumerate(map(LocalShare, shares[1:]))), SilentShares()
    assert silent.others(clients) == clients
    silent.record(clients, (1,))
    assert silent.others(clients).keys() == {0, 2}
    now[0] += AGAIN_S
    assert silent.others(clients) == clients
    assert silent.others(clients).keys() == {0, 2}  # another query meanwhile
    silent.record(clients, (0, 1, 2))
    assert silent.others(clients) == clients  # rather than nothing
    silent.record(clients, ())
    assert silent.others(clients) == silent.others(clients) == clients


def test_no_share_in_time_is_a_timeout(shares: list[SearchIndex]):
    alone, first, *_ = shares
    with pytest.raises(ServiceError) as caught:
        run([SlowShare(first)], share_query(alone, SENTENCES[0]), 0.5)
    assert caught.value.status == 504


def test_a_defect_is_not_a_partial_result(shares: list[SearchIndex]):
    alone, first, second, _ = shares
    with pytest.raises(ZeroDivisionError):
        run([LocalShare(first), FailingShare(second)], share_query(alone, SENTENCES[0]))


def test_queries_of_several_kinds_share_a_batch(shares: list[SearchIndex]):
    alone = shares[0]
    batch = [
        share_query(alone, SENTENCES[0]),
        share_query(alone, SENTENCES[1], where=Filter("val")),
        share_query(alone, SENTENCES[2]),
        share_query(alone, SENTENCES[3], k=20),
    ]
    together = candidates_of(alone, batch)
    for query, found in zip(batch, together, strict=True):
        (expected,) = candidates_of(alone, [query])
        assert found.rows_QK.tolist() == expected.rows_QK.tolist()


def test_one_share_needs_no_other(shares: list[SearchIndex], tmp_path: Path):
    alone = shares[0]
    found = run([LocalShare(alone)], share_query(alone, SENTENCES[1]))
    assert identified(found.hits) == identified(alone.search_photos([SENTENCES[1]], 5, 9)[0])
