"""What a validation leaves, against a count by hand over all pairs."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from pipelines.datasets.manifest import Manifest
from pipelines.features.feature_set import Split
from pipelines.training.validation_report import BINS, MISTAKES, validation_record
from tests.support import feature_sets


def uneven(folder: Path) -> Split:
    """40 photos with one to three captions."""
    rows = [
        replace(photo, captions=tuple(f"{photo.key} said {i}" for i in range(1 + int(photo.key[1:]) % 3)))
        for photo in feature_sets.manifest(folder, 60).photos()
    ]
    return feature_sets.write_set(folder, Manifest.build("tiny", str(folder / "photos"), rows)).split("train")


def test_the_record_is_what_counting_by_hand_gives(tmp_path: Path):
    split = uneven(tmp_path)
    photo_of = split.photo_of_caption
    scores = np.random.default_rng(0).normal(size=(len(split), len(photo_of))).astype(np.float32)
    scores[photo_of, np.arange(len(photo_of))] += 1.5
    record = validation_record(scores, split)
    own = np.array([scores[photo, c] for c, photo in enumerate(photo_of)])
    for k in (1, 3, 17):
        found = [sum(scores[:, c] > own[c]) < k for c in range(len(own))]
        assert np.isclose(record["text_to_image"][k - 1], 100 * np.mean(found))
        found = [sum(scores[n] > max(own[photo_of == n])) < k for n in range(len(split))]
        assert np.isclose(record["image_to_text"][k - 1], 100 * np.mean(found))
    assert sum(record["matched"]) == len(own)
    assert sum(record["unmatched"]) == scores.size - len(own)
    assert len(record["matched"]) == BINS
    assert np.average(record["edges"][1:], weights=record["matched"]) > 1
    wrong = [(max(scores[n, c] for n in range(len(split)) if n != photo_of[c]) - own[c], c) for c in range(len(own))]
    hardest = [split.captions[c] for margin, c in sorted(wrong, reverse=True)[:MISTAKES] if margin > 0]
    assert [each["caption"] for each in record["text_to_image_mistakes"]] == hardest
    for each in record["text_to_image_mistakes"]:
        c, n = split.captions.index(each["caption"]), split.sources.index(each["wrong_photo"])
        assert np.isclose(each["wrong_score"], scores[:, c][np.arange(len(split)) != photo_of[c]].max())
        assert np.isclose(each["wrong_score"], scores[n, c])
    for each in record["image_to_text_mistakes"]:
        n, c = split.sources.index(each["photo"]), split.captions.index(each["wrong_caption"])
        assert photo_of[c] != n
        assert np.isclose(each["wrong_score"], scores[n, photo_of != n].max())
        assert np.isclose(each["score"], scores[n, photo_of == n].max())


def test_where_all_is_right_there_are_no_mistakes(tmp_path: Path):
    split = uneven(tmp_path)
    scores = (split.photo_of_caption[None] == np.arange(len(split))[:, None]).astype(np.float32)
    record = validation_record(scores, split)
    assert record["text_to_image_mistakes"] == record["image_to_text_mistakes"] == []
    assert record["text_to_image"][0] == record["image_to_text"][0] == 100
