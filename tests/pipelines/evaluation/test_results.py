"""Tables of evaluations: recalls with intervals, the random baseline, and paired differences."""

import re
from dataclasses import replace

import pytest

from infra.cluster import ClusterConfig
from pipelines.evaluation.evaluate import evaluate
from pipelines.evaluation.results import Evaluation, difference_table, evaluation_tables, metric_label
from pipelines.evaluation.score_config import ScoreConfig
from pipelines.features.feature_set import FeatureSet
from tests.support.small_models import model, small_set


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> FeatureSet:
    return small_set(tmp_path_factory.mktemp("features"))


def evaluation(features: FeatureSet, steps: int, name: str) -> Evaluation:
    return evaluate(model(features, steps), name, features.split("val"), ScoreConfig(), ClusterConfig())


def test_tables_show_recalls_intervals_and_the_random_baseline(features):
    found = evaluation(features, 5, "m")
    text, image, both, *_ = evaluation_tables([found])
    recalls = found.recalls
    expected = [
        recalls.image_to_text_r1,
        recalls.image_to_text_r5,
        recalls.image_to_text_r10,
        recalls.image_to_text_sum,
        recalls.text_to_image_r1,
        recalls.text_to_image_r5,
        recalls.text_to_image_r10,
        recalls.text_to_image_sum,
        recalls.rsum,
    ]
    for cell, metric in zip([*text.rows[0][1:5], *image.rows[0][1:5], both.rows[0][1]], expected, strict=True):
        value, low, high = map(float, re.fullmatch(r"(.+) \((.+) to (.+)\)", cell).groups())
        assert value == pytest.approx(metric, abs=0.05)
        assert low <= value <= high
    assert text.title == "val: 30 photos, 60 captions; image-to-text retrieval"
    assert image.title == "val: 30 photos, 60 captions; text-to-image retrieval"
    assert text.rows[-1][0] == image.rows[-1][0] == both.rows[-1][0] == "random baseline"
    assert float(image.rows[-1][1]) == pytest.approx(100 / 30, abs=0.05)


def test_differences_are_paired(features):
    """Compared with itself a model has differences of exactly 0, which independent resamples would not give."""
    one, other = evaluation(features, 0, "untrained"), evaluation(features, 20, "trained")
    same = difference_table(one, replace(one, model="again"))
    assert {tuple(row[1:]) for row in same.rows} == {("+0.0", "+0.0 to +0.0", "0.0 %")}
    rows = {row[0]: row for row in difference_table(other, one).rows}
    assert float(rows["rSum"][1]) == pytest.approx(other.recalls.rsum - one.recalls.rsum, abs=0.05)
    assert rows["rSum"][3] == "100.0 %"
    assert list(rows)[:3] == ["image-to-text R@1", "image-to-text R@5", "image-to-text R@10"]


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("image_to_text_r1", "image-to-text R@1"),
        ("text_to_image_r10", "text-to-image R@10"),
        ("text_to_image_sum", "text-to-image sum"),
        ("rsum", "rSum"),
    ],
)
def test_labels_of_metrics(name, label):
    assert metric_label(name) == label
