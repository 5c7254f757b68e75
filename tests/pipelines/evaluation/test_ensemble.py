"""Ensembles: the mean of score matrices, and members that are refused."""

import numpy as np
import pytest

from infra.cluster import ClusterConfig
from infra.errors import UserError
from pipelines.evaluation.ensemble import Ensemble, require_one_feature_set
from pipelines.evaluation.evaluate import evaluate, with_own_cache
from pipelines.evaluation.score_config import ScoreConfig
from pipelines.features.feature_set import FeatureSet
from pipelines.models.load import LoadedModel
from shan_model.metrics import retrieval_ranks
from shan_model.protocols import PROTOCOLS, Protocol
from shan_model.scoring import score_matrix
from tests.support.small_models import model, small_set


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> FeatureSet:
    return small_set(tmp_path_factory.mktemp("features"))


def test_mean_scores_are_ranked_in_each_fold_and_cache(features, tmp_path, monkeypatch):
    """The second run reads the scores of both members from their caches."""
    monkeypatch.setitem(PROTOCOLS, "two", Protocol(photos=30, folds=2))
    split, shans = features.split("val"), [model(features, steps, seed=steps) for steps in (4, 6)]
    members = [LoadedModel(f"m{n}", shan, "f", f"digest-{n}") for n, shan in enumerate(shans)]
    mean_NC = sum(score_matrix(shan, split, split.captions) for shan in shans) / 2
    config = ScoreConfig(cache_file=str(tmp_path / "scores.npy"))
    for _ in range(2):
        ensemble = Ensemble(members)
        for member in members:
            cache = with_own_cache(config, member.uri)
            alone = evaluate(member.shan, member.uri, split, cache, ClusterConfig(), "two", ensemble)
        found = ensemble.evaluation(alone)
        assert (found.model, found.split) == ("ensemble", "val, two")
        for fold, ranks in zip(found.folds, found.ranks, strict=True):
            expected = retrieval_ranks(mean_NC[fold.photos][:, fold.captions], fold.photo_of_caption)
            np.testing.assert_array_equal(ranks.image_to_text_N, expected.image_to_text_N)
            np.testing.assert_array_equal(ranks.text_to_image_C, expected.text_to_image_C)
        assert found.recalls != alone.recalls
    assert {path.name for path in tmp_path.glob("*.npy")} == {
        f"scores-m{m}-fold{n}.npy" for m in (0, 1) for n in (0, 1)
    }
    assert ensemble.table().rows == [["m0", "vse++", "digest-0"], ["m1", "vse++", "digest-1"]]


@pytest.mark.parametrize("uri", ["a", "b"])  # MODEL and MODEL=FEATURES name the same one, too
def test_copies_of_a_model_are_refused(features, uri):
    shan = model(features)
    with pytest.raises(UserError, match=rf"^--ensemble names the same model twice, as a and {uri}; omit one of them"):
        Ensemble([LoadedModel("a", shan, "f", "0"), LoadedModel(uri, shan, "f", "0")])


def test_members_with_other_features_are_refused(features, tmp_path):
    other = small_set(tmp_path, 60)
    with pytest.raises(UserError, match=r"^--ensemble names 1 model; give at least two different ones"):
        require_one_feature_set([("a", features)])
    with pytest.raises(UserError, match=rf"same features, but a has {features.pinned_uri} and b has {other.uri}"):
        require_one_feature_set([("a", features), ("b", other)])
