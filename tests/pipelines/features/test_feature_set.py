"""Feature sets in which some photos have no captions: all are read and searched, those with captions are trained on."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from infra.cluster import ClusterConfig
from infra.errors import UserError
from pipelines.datasets.manifest import Manifest
from pipelines.evaluation.behaviour import run_behaviour_tests
from pipelines.evaluation.evaluate import evaluate
from pipelines.evaluation.score_config import ScoreConfig
from pipelines.features.commands import inspect_features
from pipelines.features.feature_set import FeatureSet
from pipelines.features.precomputed.export_scan import export_scan
from pipelines.features.verify import verify
from pipelines.search.feature_search import FeatureSearch
from pipelines.search.reranking_report import reranking_table
from pipelines.training.batches import ShuffledBatches
from pipelines.training.shard_cache import CacheConfig, local_shards
from pipelines.training.streamed_batches import StreamedBatches
from pipelines.training.validation_report import validation_report
from shan_model.scoring import score_matrix
from tests.support import feature_sets
from tests.support.small_models import model


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> FeatureSet:
    """100 photos in shards of two. The first 30 of train, every fourth of val and the gallery have no captions."""
    folder, seen, rows = tmp_path_factory.mktemp("partly"), Counter[str](), []
    for photo in feature_sets.manifest(folder, 100).photos():
        split = "gallery" if photo.split == "test" else photo.split
        seen[split] += 1
        has_none = {"train": seen[split] <= 30, "val": seen[split] % 4 == 1, "gallery": True}[split]
        rows.append(replace(photo, split=split, captions=() if has_none else photo.captions))
    return feature_sets.write_set(folder, Manifest.build("tiny", str(folder / "photos"), rows))


def test_a_split_has_all_photos_and_its_captioned_ones(features: FeatureSet, capsys: pytest.CaptureFixture[str]):
    split, captioned = features.split("val"), features.captioned("val")
    assert (len(split), len(captioned)) == (16, 12)
    assert captioned.keys == [key for key, texts in zip(split.keys, split.captions_of_photos, strict=True) if texts]
    rows = [split.keys.index(key) for key in captioned.keys]
    np.testing.assert_array_equal(captioned[:], np.asarray(split[:])[rows])
    assert captioned.captions == split.captions
    assert captioned.photo_of_caption.tolist() == [row for row in range(12) for _ in range(2)]
    assert split.photo_of_caption.tolist() == [rows[row] for row in captioned.photo_of_caption]
    assert features.captioned("val").keys == captioned.keys
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"split 'val' of {features.uri}: 12 of 16 photos have captions, the others are left out"


def test_a_split_without_captions_cannot_be_trained_on(features: FeatureSet):
    with pytest.raises(UserError, match="no photo of split 'gallery' has captions; add some and extract again"):
        features.captioned("gallery")
    with pytest.raises(UserError, match=r"split 'test' has no photo; .* or choose another one: train, val, gallery"):
        features.captioned("test")


def test_batches_have_captioned_photos_only(features: FeatureSet):
    train = features.captioned("train")
    local = train.on_node(local_shards(features.store, train.photos.shards, CacheConfig(), lambda _: None))
    for batches in (ShuffledBatches(local, 8, 7), StreamedBatches(train, 8, 7, False, 1)):
        for batch in batches.batches(0, 0, 0, 1):
            for caption, photo, regions_RF in zip(batch.captions, batch.photos, batch.regions, strict=True):
                assert caption in train.captions_of_photos[photo]
                np.testing.assert_array_equal(regions_RF, train[[photo]][0])


def test_evaluation_is_that_of_the_captioned_photos(features: FeatureSet):
    split = features.captioned("val")
    shan = model(features, 5)
    found = evaluate(shan, "m", split, ScoreConfig(), ClusterConfig())
    assert (found.photos, found.captions) == (12, 24)
    assert validation_report(score_matrix(shan, split, split.captions), split)["random_baseline"][-1] == 100
    assert list(run_behaviour_tests(shan, split))
    assert "12 photos, 24 captions" in reranking_table(shan, split).title


def test_all_photos_are_searched_and_explained(features: FeatureSet):
    shan, split = model(features, 5), features.split("gallery")
    search = FeatureSearch(shan, features, split)
    (hits,) = search.search_photos(["a photo of 5"], 100)
    assert len(hits) == len(split) == 16
    assert not any(hit.is_match for hit in hits)
    explanation = search.explain("a photo of 5", hits[-1])
    assert [attention.word for attention in explanation.words] == ["a", "photo", "of", "5"]


def test_it_is_verified_inspected_and_exported(features: FeatureSet, tmp_path: Path):
    assert verify(features.uri, lambda done, total: None).errors == ()
    text = inspect_features(features.uri, tmp_path / "page.html")
    assert "gallery      16 photos, 0 captions" in text
    with pytest.raises(
        UserError, match="has 2 captions; SCAN's format needs five per photo; export with --feature-format tsv"
    ):
        export_scan(features, tmp_path / "scan", lambda _: None)


def test_photos_without_captions_are_not_exported(tmp_path: Path):
    rows = [
        replace(photo, captions=("x",) * 5 if number % 2 else ())
        for number, photo in enumerate(feature_sets.manifest(tmp_path, 12).photos())
    ]
    features = feature_sets.write_set(tmp_path, Manifest.build("tiny", "/photos", rows))
    exported = export_scan(features, tmp_path / "scan", lambda _: None)
    assert "6 photos without captions are not exported" in exported.notes
    assert exported.photos == {"train": 3, "test": 2}
