"""The search index at work: exact scores, merged partial results, filters, and everything that it refuses."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from infra.errors import UserError
from pipelines.datasets.manifest import Manifest
from pipelines.features.feature_set import FeatureSet
from pipelines.models.load import LoadedModel
from pipelines.search.config import MAX_CHARACTERS, MAX_WORDS
from pipelines.search.gallery import Filter
from pipelines.search.index import RankedRows, SearchIndex, merge
from pipelines.search.index_build import IndexBuild
from pipelines.search.index_format import read_index_document
from pipelines.search.index_verify import verify_index
from shan_model.scoring import score_matrix
from tests.support.feature_sets import manifest, sample, write_set
from tests.support.indexes import SMALL, build_here, loaded
from tests.support.small_models import small_set

SENTENCES = ["a photo of 7", "number 22 <again>", "none of these words"]
ALL = 10**6
SPLITS = ("train", "val", "test")


@pytest.fixture(scope="module")
def index(built: IndexBuild, indexed_model: LoadedModel) -> SearchIndex:
    return SearchIndex.open(built.uri, indexed_model)


def rounded(shan, split) -> list[torch.Tensor]:
    """Returns the encoded photos as an index stores them."""
    with torch.inference_mode():
        return [shan.encode_photos(torch.from_numpy(split[[row]]))[0].half().float() for row in range(len(split))]


def test_scores_are_exact_for_the_stored_encodings(index: SearchIndex, indexed_features: FeatureSet):
    splits = [indexed_features.split(name) for name in SPLITS]
    with torch.inference_mode():
        regions = torch.stack([found for split in splits for found in rounded(index.shan, split)])
        expected_NQ = index.shan.alignment(regions, list(index.shan.encode_captions(SENTENCES))).numpy()
    keys = [key for split in splits for key in split.keys]
    assert len(keys) == 59
    for q, hits in enumerate(index.search_photos(SENTENCES, k=ALL)):
        assert sorted(hit.key for hit in hits) == sorted(keys)
        found = {hit.key: hit.score for hit in hits}
        np.testing.assert_allclose([found[key] for key in keys], expected_NQ[:, q], atol=1e-5)
        assert [hit.score for hit in hits] == sorted(found.values(), reverse=True)


def test_float16_changes_scores_by_less_than_a_thousandth(index: SearchIndex, indexed_features: FeatureSet):
    split = indexed_features.split("val")
    expected_NQ = score_matrix(index.shan, split, SENTENCES)
    for q, hits in enumerate(index.search_photos(SENTENCES, k=ALL, where=Filter("val"))):
        found = {hit.key: hit.score for hit in hits}
        np.testing.assert_allclose([found[key] for key in split.keys], expected_NQ[:, q], atol=1e-3)


def test_int8_changes_scores_by_less_than_a_hundredth(
    indexed_model: LoadedModel, indexed_features: FeatureSet, built: IndexBuild, tmp_path: Path
):
    found = build_here(indexed_model, [indexed_features], tmp_path, replace(SMALL, vector_type="int8"))
    assert verify_index(found.store.uri, lambda _done, _total: None).errors == ()
    sizes = [sum(p.files["vectors"].size for p in build.document.receipts().values()) for build in (built, found)]
    assert sizes[1] < 0.8 * sizes[0]  # headers included: a vector of width 16 takes 20 bytes instead of 32
    index, split = SearchIndex.open(found.store.uri, indexed_model), indexed_features.split("val")
    expected_NQ = score_matrix(index.shan, split, SENTENCES)
    for q, hits in enumerate(index.search_photos(SENTENCES, k=ALL, where=Filter("val"))):
        scores = {hit.key: hit.score for hit in hits}
        np.testing.assert_allclose([scores[key] for key in split.keys], expected_NQ[:, q], atol=1e-2)


def test_an_index_that_is_held_outlives_its_files(copy: Path, indexed_model: LoadedModel):
    index = SearchIndex.open(str(copy), indexed_model)
    expected = index.search_photos(SENTENCES)
    other = SearchIndex.open(str(copy), indexed_model)
    other.hold()
    shutil.rmtree(copy)
    found = other.search_photos(SENTENCES)
    assert found == expected
    assert other.explain(SENTENCES[0], found[0][0]).words


def test_every_caption_has_its_exact_score_for_a_photo(index: SearchIndex, indexed_features: FeatureSet):
    split = indexed_features.split("val")
    (hits,) = index.search_captions([split[[0]][0]], k=ALL)
    assert len(hits) == 2 * 59
    (scores_C,) = score_matrix(index.shan, split[[0]], [hit.captions[0] for hit in hits])
    np.testing.assert_allclose([hit.score for hit in hits], scores_C, atol=1e-3)
    assert {hit.source for hit in hits if hit.captions[0] == "a photo of 7"} == {"p7.png"}


def test_hits_describe_the_photo(index: SearchIndex, indexed_features: FeatureSet):
    (hits,) = index.search_photos(["number 22 <again>"], k=ALL)
    (match,) = [hit for hit in hits if hit.is_match]
    assert (match.dataset, match.split, match.key, match.source) == ("tiny", "val", "p22", "p22.png")
    assert match.captions == ("a photo of 22", "number 22 <again>")
    assert match.photo == f"{indexed_features.index.photo_root}/p22.png"


def test_an_explanation_adds_up_and_has_boxes_of_the_photo(index: SearchIndex, indexed_features: FeatureSet):
    sentence = "a photo of 22"
    hit = next(hit for hit in index.search_photos([sentence], k=ALL)[0] if hit.key == "p22")
    explanation = index.explain(sentence, hit)
    assert sum(explanation.levels.values()) == pytest.approx(hit.score, abs=1e-5)
    assert [word.word for word in explanation.words] == ["a", "photo", "of", "22"]
    split = indexed_features.split("val")
    boxes = split.boxes(split.keys.index("p22")).tolist()
    assert all(list(word.box) == boxes[word.region] for word in explanation.words)


def test_partial_results_merge_to_those_of_one_process(
    built: IndexBuild, indexed_model: LoadedModel, index: SearchIndex
):
    names = [partition.name for partition in built.document.galleries["photos"].partitions]
    assert len(names) > 4
    parts = [SearchIndex.open(built.uri, indexed_model, some) for some in (names[:2], names[2:3], names[3:], [])]
    queries = index.encode_sentences(SENTENCES)
    alone = index.candidates("photos", queries, 7)
    merged = merge([part.candidates("photos", queries, 7) for part in parts], 7)
    np.testing.assert_array_equal(merged.rows_QK, alone.rows_QK)
    best = index.rerank("photos", queries, alone, 3)
    reranked = merge([part.rerank("photos", queries, merged, 3) for part in parts], 3)
    np.testing.assert_array_equal(reranked.rows_QK, best.rows_QK)
    np.testing.assert_allclose(reranked.scores_QK, best.scores_QK, atol=1e-5)


def test_merging_orders_ties_and_leaves_out_missing_items():
    a = RankedRows(np.array([[5, 9]]), np.array([[1.0, 0.5]], np.float32))
    b = RankedRows(np.array([[2, -1]]), np.array([[1.0, -np.inf]], np.float32))
    merged = merge([a, b], 3)
    assert merged.rows_QK.tolist() == [[2, 5, 9]]
    assert merged.scores_QK.tolist() == [[1.0, 1.0, 0.5]]


def test_candidates_limit_the_work_but_not_the_order(index: SearchIndex):
    everything = index.search_photos(SENTENCES, k=5, candidates=ALL)
    some = index.search_photos(SENTENCES, k=5, candidates=20)
    for hits, best in zip(some, everything, strict=True):
        assert len(hits) == 5
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        assert hits[0].score <= best[0].score + 1e-6
    assert [len(hits) for hits in index.search_photos(SENTENCES, k=30, candidates=1)] == [30] * 3


def test_a_filter_restricts_by_split_and_key(index: SearchIndex):
    (hits,) = index.search_photos(["a dog"], k=ALL, where=Filter("val", "p1"))
    assert {hit.key for hit in hits} == {"p10", "p16"}
    assert index.search_photos(["a dog"], k=3, where=Filter("gallery")) == [[]]
    (hits,) = index.search_photos(["a dog"], k=4, candidates=4, where=Filter("val"))
    assert [hit.split for hit in hits] == ["val"] * 4


@pytest.mark.parametrize("matcher", ["shan", "vse++", "scan-t2i", "sgr", "tern"])
def test_photos_may_differ_in_their_number_of_regions(tmp_path: Path, matcher: str):
    photos = manifest(tmp_path, 18)
    made = {photo.key: sample(photo) for photo in list(photos.photos())[::4]}
    fewer = {key: {"regions_RF": full.regions_RF[1:], "boxes_R4": full.boxes_R4[1:]} for key, full in made.items()}
    features = write_set(tmp_path, photos, fewer)
    model = loaded(tmp_path / "model", features, matcher=matcher)
    index = SearchIndex.open(build_here(model, [features], tmp_path / "out").uri, model)
    split = features.split("train")
    expected_NQ = score_matrix(index.shan, split, ["a photo of 4"])
    (hits,) = index.search_photos(["a photo of 4"], k=ALL, where=Filter("train"))
    found = {hit.key: hit.score for hit in hits}
    np.testing.assert_allclose([found[key] for key in split.keys], expected_NQ[:, 0], atol=2e-3)
    assert len(index.explain("a photo of 4", hits[0]).words) == 4


def test_candidates_of_tern_are_the_best_items(indexed_features: FeatureSet, tmp_path: Path):
    model = loaded(tmp_path / "model", indexed_features, matcher="tern")
    built = build_here(model, [indexed_features], tmp_path / "out")
    assert verify_index(built.uri, lambda _done, _total: None).errors == ()
    index = SearchIndex.open(built.uri, model)
    everything, some = index.search_photos(SENTENCES, k=ALL), index.search_photos(SENTENCES, k=9, candidates=9)
    for best, found in zip(everything, some, strict=True):
        scores = [hit.score for hit in best]
        assert scores[0] - scores[9] > 5e-3
        np.testing.assert_allclose([hit.score for hit in found], scores[:9], atol=1e-3)
    photo = indexed_features.split("val")[[0]][0]
    (best,), (found,) = index.search_captions([photo], k=ALL), index.search_captions([photo], k=9, candidates=9)
    np.testing.assert_allclose([hit.score for hit in found], [hit.score for hit in best[:9]], atol=1e-3)


def test_several_feature_sets_form_one_gallery(tmp_path: Path, indexed_features: FeatureSet):
    photos = Manifest.build("other", str(tmp_path / "elsewhere"), manifest(tmp_path, 12).photos())
    other = write_set(tmp_path, photos)
    model = loaded(tmp_path / "model", indexed_features)
    index = SearchIndex.open(build_here(model, [indexed_features, other], tmp_path / "out").uri, model)
    (hits,) = index.search_photos(["a photo of 7"], k=ALL)
    assert sorted((hit.dataset, hit.photo) for hit in hits if hit.key == "p7") == [
        ("other", f"{tmp_path}/elsewhere/p7.png"),
        ("tiny", f"{indexed_features.index.photo_root}/p7.png"),
    ]
    assert len(hits) == 59 + 11


@pytest.mark.parametrize(
    ("sentences", "k", "candidates", "message"),
    [
        (["a dog", "  "], 3, 10, "query 2 is empty; give a sentence"),
        (["a dog", "!!! \U0001f600"], 3, 10, "query 2 has no word; give text with a letter or a digit"),
        (["word " * (MAX_WORDS + 1)], 3, 10, f"query 1 has {MAX_WORDS + 1} words; give at most {MAX_WORDS}"),
        (["a," * 9999], 3, 10, f"query 1 has 9999 words; give at most {MAX_WORDS}"),
        (["a" * (MAX_CHARACTERS + 1)], 3, 10, "query 1 has 20001 characters; give at most 20000"),
        (["a dog"], 0, 10, "k is 0 and candidates is 10; each must be at least 1"),
        (["a dog"], 3, -1, "k is 3 and candidates is -1; each must be at least 1"),
    ],
)
def test_queries_that_mean_nothing_are_refused(
    index: SearchIndex, sentences: list[str], k: int, candidates: int, message: str
):
    with pytest.raises(UserError, match=message):
        index.search_photos(sentences, k, candidates)


def test_no_queries_no_results_and_other_scripts_are_words(index: SearchIndex):
    assert index.search_photos([], k=3) == []
    assert [len(hits) for hits in index.search_photos(["ein Hund läuft", "犬が走る"], k=2)] == [2, 2]


def test_photos_with_other_features_are_refused(index: SearchIndex):
    with pytest.raises(UserError, match=r"photo 1 has region features of shape \(3, 4\); the model needs R x 8"):
        index.search_captions([np.zeros((3, 4), np.float16)])


def test_another_model_is_refused(built: IndexBuild, indexed_features: FeatureSet, tmp_path: Path):
    other = loaded(tmp_path / "other", indexed_features, seed=1)
    message = r"was encoded by \S+ \(digest \w{12}\), not \S+ \(digest \w{12}\); pass --model \S+, omit --model, or"
    with pytest.raises(UserError, match=message):
        SearchIndex.open(built.uri, other)


def test_a_gallery_that_was_not_built_is_named(
    indexed_features: FeatureSet, indexed_model: LoadedModel, tmp_path: Path
):
    build = build_here(indexed_model, [indexed_features], tmp_path, replace(SMALL, galleries="photos"))
    index = SearchIndex.open(build.uri, indexed_model)
    with pytest.raises(UserError, match="the index has no captions, only photos; build it with"):
        index.search_captions([np.zeros((3, 8), np.float16)])


def test_an_index_keeps_its_snapshots(tmp_path: Path):
    features = small_set(tmp_path, 18)
    model = loaded(tmp_path / "model", features)
    first = build_here(model, [features], tmp_path / "out")
    second = build_here(model, [small_set(tmp_path, 30)], tmp_path / "out")
    assert first.store.uri == second.store.uri
    for build, count in ((first, 17), (second, 29)):
        (hits,) = SearchIndex.open(build.uri, model).search_photos(["a dog"], k=ALL)
        assert len(hits) == count


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 0x41
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("pattern", "change", "message"),
    [
        ("photos-val-*.pooled.npy", flip, r"pooled\.npy does not have the sha256 in the index; run `.* verify`"),
        ("photos-val-*.pooled.npy", cut, r"pooled\.npy does not have the sha256 in the index"),
        ("photos-val-*.pooled.npy", Path.unlink, r"pooled\.npy does not exist; run"),
        ("photos-val-*.items.arrow", flip, r"items\.arrow does not have the sha256 in the index"),
        ("photos-val-*.vectors.npy", cut, r"vectors\.npy has \d+ bytes, expected \d+; run"),
        ("photos-val-*.vectors.npy", Path.unlink, r"vectors\.npy does not exist, expected \d+; run"),
        ("photos-val-*.boxes.npy", cut, r"boxes\.npy has \d+ bytes, expected \d+; run"),
    ],
)
def test_a_corrupt_index_is_an_error_of_one_line(
    copy: Path, indexed_model: LoadedModel, pattern: str, change, message: str
):
    change(sorted(copy.glob(pattern))[0])
    with pytest.raises(UserError, match=message):
        SearchIndex.open(str(copy), indexed_model)


def test_what_is_not_an_index_is_an_error_of_one_line(
    copy: Path, indexed_model: LoadedModel, indexed_features: FeatureSet, tmp_path: Path
):
    with pytest.raises(UserError, match="no finished search index here; run"):
        SearchIndex.open(str(tmp_path / "nowhere"), indexed_model)
    with pytest.raises(UserError, match=r"its format is 'shan-features/0.2', this release reads 'shan-index/1'"):
        SearchIndex.open(indexed_features.uri, indexed_model)
    document = json.loads((copy / "index.json").read_text())
    document["galleries"]["photos"]["partitions"][0]["items"] += 1
    (copy / "index.json").write_text(json.dumps(document))
    with pytest.raises(UserError, match="its content does not have the digest that it states"):
        SearchIndex.open(str(copy), indexed_model)
    (copy / "index.json").unlink()  # as after a build that was interrupted
    with pytest.raises(UserError, match="no finished search index here"):
        read_index_document(str(copy))
