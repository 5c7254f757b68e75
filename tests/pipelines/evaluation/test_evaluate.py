"""Evaluation of a model on a split: ranks of all pairs, galleries of a protocol, and what a run logs."""

import numpy as np
import pytest

from infra.cluster import ClusterConfig
from infra.errors import UserError
from infra.tracking import Tracking
from pipelines.evaluation.evaluate import evaluate, evaluation_text, log_evaluated_data, log_evaluation
from pipelines.evaluation.score_config import ScoreConfig
from pipelines.features.feature_set import FeatureSet
from pipelines.features.mlflow_lineage import log_datasets
from shan_model.protocols import PROTOCOLS, Protocol
from shan_model.scoring import score_matrix
from tests.support.small_models import model, small_set


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> FeatureSet:
    return small_set(tmp_path_factory.mktemp("features"))


def test_recalls_are_those_of_the_score_matrix(features):
    shan, split = model(features, 5), features.split("val")
    found = evaluate(shan, "m", split, ScoreConfig(), ClusterConfig())
    best_C = score_matrix(shan, split, split.captions).argmax(axis=0)
    assert found.recalls.text_to_image_r1 == pytest.approx(100 * (best_C == split.photo_of_caption).mean())
    assert (found.photos, found.captions) == (len(split), len(split.captions))


def test_every_fold_is_a_gallery_with_its_own_score_cache(features, tmp_path, monkeypatch):
    monkeypatch.setitem(PROTOCOLS, "two", Protocol(photos=30, folds=2))
    shan, split = model(features, 5), features.split("val")
    config = ScoreConfig(cache_file=str(tmp_path / "scores.npy"))
    found = evaluate(shan, "m", split, config, ClusterConfig(), "two")
    assert found.split == "val, two"
    scores_NC = score_matrix(shan, split, split.captions)
    for number, fold in enumerate(found.folds):
        cached = np.load(tmp_path / f"scores-fold{number}.npy")
        np.testing.assert_allclose(cached, scores_NC[fold.photos][:, fold.captions], rtol=0, atol=1e-6)
        assert len(found.ranks[number].image_to_text_N) == 15


def test_split_size_must_match_protocol(features):
    with pytest.raises(UserError, match="defined on a test split of 1,000 photos but this split has 30"):
        evaluate(model(features), "m", features.split("val"), ScoreConfig(), ClusterConfig(), "f30k-1k")


def test_a_run_lists_a_split_once_with_its_first_context(features, tracking: Tracking, capsys):
    run_id, before = tracking.create_run("m", {}), tracking.create_run("other", {})
    log_datasets(tracking, run_id, features, {"val": "validation"})
    for split, context in (("val", "evaluation"), ("test", "promotion"), ("test", "evaluation")):
        log_evaluated_data(tracking, run_id, features, split, context)
    log_evaluated_data(tracking, None, features, "test")
    inputs = tracking.client().get_run(run_id).inputs.dataset_inputs
    listed = sorted((each.dataset.name, each.dataset.digest, each.tags[0].value) for each in inputs)
    digest = features.index.feature_set[:12]
    assert listed == [("tiny test", digest, "promotion"), ("tiny val", digest, "validation")]
    assert not tracking.client().get_run(before).inputs.dataset_inputs
    assert capsys.readouterr() == ("", "")


def test_a_run_that_is_gone_costs_a_warning(features, tracking: Tracking, capsys):
    run_id = "0" * 32
    log_evaluated_data(tracking, run_id, features, "test")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: run {run_id} does not list split test of {features.uri} as a dataset (Run with")


def test_a_run_logs_results_the_random_baseline_and_tables(features, tracking: Tracking):
    found = evaluate(model(features), "m", features.split("val"), ScoreConfig(), ClusterConfig())
    run_id = tracking.create_run("m", {})
    text = log_evaluation(tracking, run_id, features, found, "fp32")
    client = tracking.client()
    (logged,) = client.get_run(run_id).inputs.dataset_inputs
    assert (logged.dataset.name, logged.tags[0].value) == ("tiny val", "evaluation")
    metrics = client.get_run(run_id).data.metrics
    assert metrics["val_rsum"] == pytest.approx(found.recalls.rsum)
    assert metrics["val_image_to_text_r1"] == pytest.approx(found.recalls.image_to_text_r1)
    assert metrics["val_text_to_image_median_rank"] == found.medians["text_to_image_median_rank"]
    assert metrics["val_random_rsum"] == pytest.approx(found.random_baseline.rsum)
    assert [file.path for file in client.list_artifacts(run_id)] == ["evaluation_val.md"]
    assert evaluation_text(tracking, run_id, "val", "fp32") == text
    assert evaluation_text(tracking, run_id, "val", "bf16") is None
