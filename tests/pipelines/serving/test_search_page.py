"""The search page: photos with the regions that words attend to, and a frame around a match."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.features.feature_set import FeatureSet
from pipelines.features.precomputed.scan import import_scan
from pipelines.serving.search_page import MAX_WORDS, attended_boxes, write_search_page
from shan_model.config import ModelConfig
from shan_model.model import SHAN
from shan_model.vocabulary import Vocabulary
from tests.support.feature_sets import FEATURE_DIM, manifest, write_photos, write_set
from tests.support.precomputed import scan_folder


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> FeatureSet:
    folder = tmp_path_factory.mktemp("features")
    photos = manifest(folder, 12)
    write_photos(photos)
    return write_set(folder, photos)


@pytest.fixture(scope="module")
def shan(features: FeatureSet) -> SHAN:
    torch.manual_seed(0)
    config = ModelConfig(region_dim=FEATURE_DIM, joint_dim=8, word_dim=6)
    return SHAN(config, Vocabulary.build(features.split("train").captions)).eval()


def test_the_page_shows_the_photos_and_frames_the_match(features, shan, tmp_path: Path):
    split = features.split("train")
    query = split.captions_of_photos[1][0]
    write_search_page(tmp_path / "out" / "page.html", "<t>", shan, features, split, {query: [(0, 0.5), (1, 0.25)]})
    text = (tmp_path / "out" / "page.html").read_text(encoding="utf-8")
    assert text.count("src='data:image/jpeg;base64,") == 2
    assert text.count("<figure class=match>") == 1
    assert "meta" not in vars(split)  # names and captions need no shard
    assert "<h1>&lt;t&gt;</h1>" in text
    assert f"{split.sources[1]} &middot; 0.250" in text


def test_boxes_show_the_regions_with_the_highest_attention(features, shan):
    split = features.split("train")
    boxes = attended_boxes(shan, split, 0, split.captions[0])
    words = [word for label, _ in boxes for word in label.split()]
    assert len(words) == MAX_WORDS
    assert set(words) <= set(shan.text_encoder.tokens(split.captions[0]))
    regions = split.boxes(0)
    for _, box in boxes:
        assert any(np.allclose(box, region) for region in regions)


def test_a_page_of_features_without_boxes_and_photos(shan, tmp_path: Path):
    folder = scan_folder(tmp_path / "in", {"test": 2}, width=FEATURE_DIM)
    features = import_scan(folder, f"{tmp_path}/out", None, 2, lambda _: None).feature_set
    write_search_page(tmp_path / "page.html", "t", shan, features, features.split("test"), {"a dog": [(0, 0.5)]})
    assert "test0.jpg" in (tmp_path / "page.html").read_text(encoding="utf-8")
