"""The search page: photos with the regions that words attend to, and a frame around a match."""

from pathlib import Path

import pytest

from pipelines.features.feature_set import FeatureSet
from pipelines.features.precomputed.scan import import_scan
from pipelines.search.feature_search import FeatureSearch
from pipelines.search.hits import Explanation, Word
from pipelines.search.search_page import attended_boxes, write_search_page
from tests.support.feature_sets import FEATURE_DIM, manifest, write_photos, write_set
from tests.support.indexes import network
from tests.support.precomputed import scan_folder


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> FeatureSet:
    folder = tmp_path_factory.mktemp("features")
    photos = manifest(folder, 12)
    write_photos(photos)
    return write_set(folder, photos)


def test_the_page_shows_the_photos_and_frames_the_match(features: FeatureSet, tmp_path: Path):
    split = features.split("train")
    search, query = FeatureSearch(network(features), features, split), split.captions_of_photos[1][0]
    results = search.search_photos([query], 7)
    explanations = [[search.explain(query, hit) for hit in hits] for hits in results]
    write_search_page(tmp_path / "out" / "page.html", "<t>", [query], results, explanations)
    text = (tmp_path / "out" / "page.html").read_text(encoding="utf-8")
    assert text.count("src='data:image/jpeg;base64,") == 7
    assert text.count("<figure class=match>") == 1
    assert "meta" not in vars(split)  # names and captions need no shard
    assert "<h1>&lt;t&gt;</h1>" in text
    assert "<p>Not in the model's vocabulary: 1.</p>" in text
    assert f"{results[0][0].source} &middot; {results[0][0].score:.3f}" in text


def test_boxes_are_those_of_the_words_with_the_highest_weights():
    places = [(0, 0.5), (2, 0.9), (0, 0.6), (1, 0.1), (2, 0.8)]
    words = [Word(f"w{i}", True, region, weight, (region, 0.0, 9.0, 9.0)) for i, (region, weight) in enumerate(places)]
    assert attended_boxes(Explanation({}, tuple(words))) == [
        ("w0 w2", (0, 0.0, 9.0, 9.0)),
        ("w1 w4", (2, 0.0, 9.0, 9.0)),
    ]


def test_a_page_of_features_without_boxes_and_photos(features: FeatureSet, tmp_path: Path):
    folder = scan_folder(tmp_path / "in", {"test": 2}, width=FEATURE_DIM)
    imported = import_scan(folder, f"{tmp_path}/out", None, 2, lambda _: None).feature_set
    search = FeatureSearch(network(features), imported, imported.split("test"))
    results = search.search_photos(["a dog"], 1)
    explanation = search.explain("a dog", results[0][0])
    assert [word.box for word in explanation.words] == [None, None]
    assert attended_boxes(explanation) == []
    write_search_page(tmp_path / "page.html", "t", ["a dog"], results, [[explanation]])
    assert results[0][0].source in (tmp_path / "page.html").read_text(encoding="utf-8")
