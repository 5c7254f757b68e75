"""Retrieve-and-rerank on a split: recall of the exact top results by number of candidates."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.search.reranking_report import candidate_recall, reranking_table
from shan_model.config import ModelConfig
from shan_model.model import SHAN
from shan_model.vocabulary import Vocabulary
from tests.support.feature_sets import FEATURE_DIM, REGIONS, manifest, sample, write_set
from tests.support.small_models import model, small_set


def test_candidate_recall_by_hand():
    exact_QG = np.array([[9.0, 8, 7, 6], [1, 2, 3, 4]])
    cheap_QG = np.array([[9.0, 1, 8, 2], [4, 3, 2, 1]])
    assert candidate_recall(exact_QG, cheap_QG, 2) == (0.5, 0.5)
    assert candidate_recall(exact_QG, cheap_QG, 4) == (1.0, 1.0)
    assert candidate_recall(exact_QG, exact_QG, 1) == (1.0, 0.25)


def test_a_row_per_direction_and_number_of_candidates(tmp_path, capsys):
    features = small_set(tmp_path)
    split = features.split("val")
    table = reranking_table(model(features, 20), split)
    numbers = [("photos", n) for n in ("1", "3", "6", "12")] + [("captions", n) for n in ("1", "2", "3", "6")]
    assert [(row[0], row[2]) for row in table.rows] == numbers
    assert table.title.startswith("val: 30 photos, 60 captions; all 1,800 pairs scored exactly in ")
    recalls = [float(row[4].removesuffix(" %")) for row in table.rows[:4]]
    assert recalls == sorted(recalls)
    scored = 30 * 60 + 30 * (1 + 3 + 6 + 12) + 60 * (1 + 2 + 3 + 6)
    shown = capsys.readouterr().err
    assert f"{scored / 1000:.2f}k/{scored / 1000:.2f}k" in shown
    for done in ("30/30", "60/60"):
        assert re.search(rf"encode val: 100%.* {done} ", shown)


@pytest.mark.parametrize("matcher", ["shan", "vse++", "sgr", "tern"])
def test_photos_may_differ_in_their_number_of_regions(tmp_path: Path, matcher: Any):
    photos = manifest(tmp_path, 60)
    made = {photo.key: sample(photo) for photo in list(photos.photos())[::4]}
    fewer = {key: {"regions_RF": full.regions_RF[1:], "boxes_R4": full.boxes_R4[1:]} for key, full in made.items()}
    split = write_set(tmp_path, photos, fewer).split("val")
    assert {len(regions_RF) for regions_RF in split[:]} == {REGIONS - 1, REGIONS}
    config = ModelConfig(region_dim=FEATURE_DIM, joint_dim=8, word_dim=6, matcher=matcher)
    table = reranking_table(SHAN(config, Vocabulary.build(split.captions)).eval(), split)
    assert {row[0] for row in table.rows} == {"photos", "captions"}
