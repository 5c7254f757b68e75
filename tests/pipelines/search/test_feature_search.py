"""Exhaustive search over a feature set: photos and captions by exact score, and the mark of a matching photo."""

import numpy as np
import pytest

from infra.errors import UserError
from pipelines.features.feature_set import FeatureSet
from pipelines.search.feature_search import FeatureSearch
from shan_model.scoring import score_matrix
from tests.support.small_models import model, small_set


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> FeatureSet:
    return small_set(tmp_path_factory.mktemp("features"))


def test_photos_are_ranked_by_their_exact_score(features: FeatureSet):
    shan, split = model(features, 20), features.split("val")
    queries = [split.captions[3], "none of these words"]
    results = FeatureSearch(shan, features, split).search_photos(queries, 4)
    scores_NQ = score_matrix(shan, split, queries)
    for q, hits in enumerate(results):
        assert [hit.score for hit in hits] == pytest.approx(np.sort(scores_NQ[:, q])[::-1][:4].tolist())
        assert [hit.source for hit in hits] == [split.sources[hit.row] for hit in hits]
        assert [hit.key for hit in hits] == [split.keys[hit.row] for hit in hits]
    row = int(split.photo_of_caption[3])
    assert [hit.row for hit in results[0] if hit.is_match] in ([], [row])
    assert not any(hit.is_match for hit in results[1])


def test_captions_are_ranked_by_their_exact_score_for_a_photo(features: FeatureSet):
    shan, split = model(features, 20), features.split("val")
    (hits,) = FeatureSearch(shan, features, split).search_captions([split[[2]][0]], 5)
    (scores_C,) = score_matrix(shan, split[[2]], split.captions)
    assert [hit.score for hit in hits] == pytest.approx(np.sort(scores_C)[::-1][:5].tolist())
    for hit in hits:
        assert hit.captions == (split.captions[hit.row],)
        assert hit.source == split.sources[split.photo_of_caption[hit.row]]


def test_a_search_reads_no_shard_for_the_names_of_photos(features: FeatureSet):
    split = features.split("val")
    FeatureSearch(model(features), features, split).search_photos(["a dog"], 4)
    assert "meta" not in vars(split)


def test_unusable_queries_are_refused(features: FeatureSet):
    search = FeatureSearch(model(features), features, features.split("val"))
    with pytest.raises(UserError, match=r"photo 1 has region features of shape \(3, 4\); the model needs R x 8"):
        search.search_captions([np.zeros((3, 4), np.float32)], 4)
    with pytest.raises(UserError, match="photo 2 has region features that are NaN or infinite"):
        search.search_captions([np.zeros((3, 8)), np.full((3, 8), np.nan)], 4)
    with pytest.raises(UserError, match="query 1 is empty; give a sentence"):
        search.search_photos([""], 4)
