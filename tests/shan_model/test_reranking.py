"""Retrieve-and-rerank: exact with all candidates, and exact among the candidates with fewer."""

import pytest
import torch

from shan_model.reranking import pooled_cosines, retrieve_and_rerank
from tests.support.alignments import build_alignments, build_baseline, random_matrices, unnormalised_matrices

REGIONS, WORDS = [5, 3, 5, 8, 3, 5], [2, 5, 1, 5, 9, 2, 2]


@pytest.fixture
def gallery():
    _, fast = build_alignments()
    return fast, [v.detach() for v in random_matrices(REGIONS)], [t.detach() for t in random_matrices(WORDS, seed=2)]


def test_the_cheap_score_is_the_cosine_of_means(gallery):
    fast, regions, words = gallery
    expected = [[torch.cosine_similarity(v.mean(0), t.mean(0), dim=0) for t in words] for v in regions]
    torch.testing.assert_close(pooled_cosines(fast, regions, words), torch.tensor(expected, dtype=torch.float64))


def test_the_cheap_score_of_tern_is_its_score():
    tern, regions, words = (
        build_baseline({"matcher": "tern"}),
        unnormalised_matrices(REGIONS),
        unnormalised_matrices(WORDS),
    )
    torch.testing.assert_close(pooled_cosines(tern, regions, words), tern(regions, words), rtol=0, atol=1e-12)


@pytest.mark.parametrize("queries", ["photos", "captions"])
def test_with_all_candidates_the_ranking_is_exact(gallery, queries):
    fast, regions, words = gallery
    exact = fast(regions, words).detach()
    exact = exact if queries == "photos" else exact.T
    ranked = retrieve_and_rerank(fast, regions, words, queries, candidates=100)
    torch.testing.assert_close(ranked.scores_QK, exact.sort(dim=1, descending=True).values, rtol=0, atol=1e-12)
    torch.testing.assert_close(ranked.items_QK, exact.argsort(dim=1, descending=True), rtol=0, atol=0)


@pytest.mark.parametrize("queries", ["photos", "captions"])
def test_the_best_by_the_cheap_score_are_ranked_exactly(gallery, queries):
    fast, regions, words = gallery
    exact, cheap = fast(regions, words).detach(), pooled_cosines(fast, regions, words).detach()
    if queries == "captions":
        exact, cheap = exact.T, cheap.T
    ranked = retrieve_and_rerank(fast, regions, words, queries, candidates=3)
    for query, (items, scores) in enumerate(zip(ranked.items_QK, ranked.scores_QK, strict=True)):
        assert set(items.tolist()) == set(cheap[query].argsort(descending=True)[:3].tolist())
        torch.testing.assert_close(scores, exact[query, items], rtol=0, atol=1e-12)
        assert (scores[:-1] >= scores[1:]).all()


@pytest.mark.parametrize(("photos", "captions", "candidates"), [(6, 7, 0), (0, 7, 1), (6, 0, 1)])
def test_an_empty_gallery_or_no_candidates_is_an_error(gallery, photos, captions, candidates):
    fast, regions, words = gallery
    with pytest.raises(ValueError, match="each must be at least 1"):
        retrieve_and_rerank(fast, regions[:photos], words[:captions], "photos", candidates)
