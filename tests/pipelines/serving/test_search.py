"""Text-to-image search: photos by exact score, and the mark of a matching photo."""

import numpy as np
import pytest

from pipelines.features.feature_set import FeatureSet
from pipelines.serving.search import search, search_listing
from shan_model.scoring import score_matrix
from tests.support.small_models import model, small_set


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> FeatureSet:
    return small_set(tmp_path_factory.mktemp("features"))


def test_photos_are_ranked_by_their_exact_score(features):
    shan, split = model(features, 20), features.split("val")
    queries = [split.captions[3], "none of these words"]
    results = search(shan, split, queries, top=4)
    scores_NQ = score_matrix(shan, split, queries)
    for q, hits in enumerate(results):
        assert [hit.score for hit in hits] == pytest.approx(np.sort(scores_NQ[:, q])[::-1][:4].tolist())
        assert [hit.source for hit in hits] == [split.sources[hit.row] for hit in hits]
    row = int(split.photo_of_caption[3])
    assert [hit.row for hit in results[0] if hit.is_match] in ([], [row])
    assert not any(hit.is_match for hit in results[1])


def test_a_search_reads_no_shard_for_the_names_of_photos(features):
    split = features.split("val")
    search(model(features), split, ["a dog"], top=4)
    assert "meta" not in vars(split)


def test_the_listing_numbers_the_photos_and_marks_a_match(features):
    split = features.split("val")
    results = search(model(features, 20), split, [split.captions[0]], top=30)
    lines = search_listing([split.captions[0]], results).splitlines()
    assert lines[0] == f'"{split.captions[0]}"'
    assert len(lines) == 31
    assert sum(line.endswith("  *") for line in lines) == 1
    assert lines[1].startswith("  1. ")
