"""Validation reports against counts over all pairs."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from pipelines.datasets.manifest import Manifest
from pipelines.evaluation.results import Evaluation
from pipelines.features.split import Split
from pipelines.training.validation_report import BINS, MISTAKES, validation_report
from shan_model.bootstrap import interval
from shan_model.metrics import retrieval_ranks
from shan_model.protocols import cut_folds
from tests.support import feature_sets


def uneven(folder: Path) -> Split:
    """40 photos with one to three captions."""
    rows = [
        replace(photo, captions=tuple(f"{photo.key} said {i}" for i in range(1 + int(photo.key[1:]) % 3)))
        for photo in feature_sets.manifest(folder, 60).photos()
    ]
    return feature_sets.write_set(folder, Manifest.build("tiny", str(folder / "photos"), rows)).split("train")


def test_report_equals_counts_over_all_pairs(tmp_path: Path):
    split = uneven(tmp_path)
    photo_of = split.photo_of_caption
    scores = np.random.default_rng(0).normal(size=(len(split), len(photo_of))).astype(np.float32)
    scores[photo_of, np.arange(len(photo_of))] += 1.5
    report = validation_report(scores, split)
    own = np.array([scores[photo, c] for c, photo in enumerate(photo_of)])
    for k in (1, 3, 17):
        found = [sum(scores[:, c] > own[c]) < k for c in range(len(own))]
        assert np.isclose(report["text_to_image"][k - 1], 100 * np.mean(found))
        found = [sum(scores[n] > max(own[photo_of == n])) < k for n in range(len(split))]
        assert np.isclose(report["image_to_text"][k - 1], 100 * np.mean(found))
    ranks = retrieval_ranks(scores, photo_of)
    evaluation = Evaluation("m", "train", *scores.shape, cut_folds(None, *scores.shape[:1], photo_of), [ranks])
    for name, (low, high) in report["intervals"].items():
        assert (low, high) == interval(evaluation.resamples[name])
        assert low <= ranks.recalls().as_metrics()[name] <= high
    assert sum(report["matched"]) == len(own)
    assert sum(report["unmatched"]) == scores.size - len(own)
    assert len(report["matched"]) == BINS
    assert np.average(report["edges"][1:], weights=report["matched"]) > 1
    wrong = [(max(scores[n, c] for n in range(len(split)) if n != photo_of[c]) - own[c], c) for c in range(len(own))]
    hardest = [split.captions[c] for margin, c in sorted(wrong, reverse=True)[:MISTAKES] if margin > 0]
    assert [each["caption"] for each in report["text_to_image_mistakes"]] == hardest
    for each in report["text_to_image_mistakes"]:
        c, n = split.captions.index(each["caption"]), split.sources.index(each["wrong_photo"])
        assert np.isclose(each["wrong_score"], scores[:, c][np.arange(len(split)) != photo_of[c]].max())
        assert np.isclose(each["wrong_score"], scores[n, c])
    for each in report["image_to_text_mistakes"]:
        n, c = split.sources.index(each["photo"]), split.captions.index(each["wrong_caption"])
        assert photo_of[c] != n
        assert np.isclose(each["wrong_score"], scores[n, photo_of != n].max())
        assert np.isclose(each["score"], scores[n, photo_of == n].max())


def test_perfect_scores_have_no_mistakes(tmp_path: Path):
    split = uneven(tmp_path)
    scores = (split.photo_of_caption[None] == np.arange(len(split))[:, None]).astype(np.float32)
    report = validation_report(scores, split)
    assert report["text_to_image_mistakes"] == report["image_to_text_mistakes"] == []
    assert report["text_to_image"][0] == report["image_to_text"][0] == 100
