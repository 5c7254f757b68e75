"""Figures of a training and its page of mistakes."""

import base64
import re
from typing import Any

import numpy as np
import pytest

from infra.tracking import Tracking
from pipelines.features.feature_set import FeatureSet
from pipelines.training.figures import learning_curves, log_figures, mistakes_page, recall_curves, score_histogram
from pipelines.training.validation_report import validation_report
from tests.support import feature_sets

HISTORY = [(10, 0, {"loss": 3.0, "lr": 1e-3}), (20, 0, {"loss": 2.0, "lr": 1e-3}), (20, 1, {"val_rsum": 50.0})]


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> FeatureSet:
    folder = tmp_path_factory.mktemp("features")
    photos = feature_sets.manifest(folder, 24)
    feature_sets.write_photos(photos)
    return feature_sets.write_set(folder, photos)


@pytest.fixture(scope="module")
def validation(features: FeatureSet) -> dict[str, Any]:
    split = features.split("val")
    scores = np.random.default_rng(0).normal(size=(len(split), len(split.captions))).astype(np.float32)
    return validation_report(scores, split)


def lines(axes: Any) -> dict[str, tuple[list[float], list[float]]]:
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}


def test_learning_curves_show_every_metric_by_step():
    axes = {panel.get_ylabel(): lines(panel) for panel in learning_curves(HISTORY).axes}
    assert list(axes["loss per batch"].values()) == [([10, 20], [3.0, 2.0])]
    assert list(axes["validation rSum"].values()) == [([20], [50.0])]
    assert len(axes["validation recall, %"]) == 6


def test_recall_curves_show_both_directions_and_the_baseline(validation: dict[str, Any]):
    curves = lines(recall_curves(validation).axes[0])
    assert curves["image-to-text"][1] == validation["image_to_text"]
    assert curves["text-to-image"][1] == validation["text_to_image"]
    assert len(curves) == 3


def test_histogram_has_densities_of_both_kinds(validation: dict[str, Any]):
    patches = score_histogram(validation).axes[0].patches
    assert [float(patch.get_data().values.sum()) for patch in patches] == pytest.approx([1, 1])  # type: ignore[attr-defined]


def test_mistakes_page_shows_the_photos(features: FeatureSet, validation: dict[str, Any]):
    page = mistakes_page(validation, features)
    mistakes = validation["text_to_image_mistakes"] + validation["image_to_text_mistakes"]
    assert mistakes
    images = re.findall(r"data:image/\w+;base64,([^\"' )]+)", page)
    assert len(images) == 2 * len(mistakes)
    assert all(base64.b64decode(image) for image in images)
    assert "&lt;again&gt;" in page
    assert "<again>" not in page


def test_figures_are_artifacts_of_the_run(features: FeatureSet, validation: dict[str, Any], tracking: Tracking):
    run_id = tracking.create_run("m", {})
    log_figures(tracking, run_id, features, validation, HISTORY)
    assert {artifact.path for artifact in tracking.client().list_artifacts(run_id)} == {
        "curves.png", "recalls.png", "similarities.png", "mistakes.html",
    }  # fmt: skip
