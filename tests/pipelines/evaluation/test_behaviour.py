"""Behavioural tests detect models with one known defect each, and pass for a correct model."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pipelines.datasets.manifest import Manifest
from pipelines.evaluation.behaviour import BehaviourResult, run_behaviour_tests
from pipelines.features.feature_set import FeatureSet
from pipelines.features.split import Split
from shan_model.config import ModelConfig
from shan_model.model import SHAN
from shan_model.vocabulary import Vocabulary, tokenize
from tests.support.feature_sets import FEATURE_DIM, manifest, write_photos, write_set

CAPTION = "a small red dog left of a blue ball in photo"


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> FeatureSet:
    folder = tmp_path_factory.mktemp("features")
    rows = list(manifest(folder, 60, CAPTION).photos())
    rows[5] = replace(rows[5], captions=("a large green cat is right of a man", "a boy"))
    photos = Manifest.build("tiny", str(folder / "photos"), rows)
    write_photos(photos)
    return write_set(folder, photos)


@pytest.fixture(scope="module")
def split(features: FeatureSet) -> Split:
    return features.split("test")


def build(kind: type[SHAN], split: Split) -> SHAN:
    torch.manual_seed(0)
    config = ModelConfig(region_dim=FEATURE_DIM, joint_dim=8, word_dim=6)
    return kind(config, Vocabulary.build(split.captions)).eval()


def results(kind: type[SHAN], split: Split) -> dict[str, BehaviourResult]:
    return {result.name: result for result in run_behaviour_tests(build(kind, split), split)}


class BagOfWords(SHAN):
    """A model that ignores word order: it sorts the words."""

    def encode_captions(self, captions: Sequence[str]) -> list[Tensor]:
        return super().encode_captions([" ".join(sorted(tokenize(caption))) for caption in captions])


class ReadsCapitals(SHAN):
    """A model whose scores depend on upper case."""

    def encode_captions(self, captions: Sequence[str]) -> list[Tensor]:
        words = super().encode_captions(captions)
        return [-w if c != c.lower() else w for w, c in zip(words, captions, strict=True)]


class FirstRegionOnly(SHAN):
    """A model that depends on the order of the regions."""

    def encode_photos(self, regions_BRF: Tensor) -> Tensor:
        return super().encode_photos(regions_BRF[:, :1])


class BatchPosition(SHAN):
    """A model in which the encoding of a photo depends on its position in the batch."""

    def encode_photos(self, regions_BRF: Tensor) -> Tensor:
        return super().encode_photos(regions_BRF) + torch.arange(len(regions_BRF))[:, None, None]


class DividesByWords(SHAN):
    """A model that divides by the number of words."""

    def encode_captions(self, captions: Sequence[str]) -> list[Tensor]:
        words = super().encode_captions(captions)
        return [w / 0 if not tokenize(c) else w for w, c in zip(words, captions, strict=True)]


INVARIANCE_TESTS = ("case and spaces", "photo order", "duplicate photos", "region order", "unusual texts")


def test_a_correct_model_passes_every_invariance_test(split):
    found = results(SHAN, split)
    assert {name: found[name].passed for name in INVARIANCE_TESTS} == {
        name: found[name].cases for name in INVARIANCE_TESTS
    }
    photos = len(split)
    assert found["photo order"].cases == found["duplicate photos"].cases == found["region order"].cases == photos**2
    assert found["case and spaces"].cases == 3 * len(split.captions)
    assert {"word order", "colour replaced", "size replaced", "position replaced", "attributes swapped"} <= found.keys()
    assert "shape replaced" not in found  # no case


@pytest.mark.parametrize(
    ("kind", "failed"),
    [
        (ReadsCapitals, {"case and spaces"}),
        (FirstRegionOnly, {"region order"}),
        (BatchPosition, {"photo order", "duplicate photos"}),
        (DividesByWords, {"unusual texts"}),
    ],
)
def test_a_defect_fails_its_invariance_tests_and_no_others(split, kind: type[SHAN], failed: set[str]):
    found = results(kind, split)
    assert {name for name in INVARIANCE_TESTS if found[name].passed < found[name].cases} == failed
    for name in failed:
        assert found[name].worst


def test_bag_of_words_model_fails_word_order_tests(split):
    found = results(BagOfWords, split)
    for name in ("word order", "attributes swapped"):
        assert found[name].cases > 0
        assert found[name].passed == 0
        assert found[name].worst[0].score == pytest.approx(found[name].worst[0].perturbed_score, abs=1e-6)
    assert {abs(case.score - case.perturbed_score) > 1e-5 for case in found["colour replaced"].worst} == {True}


def test_the_worst_cases_are_listed_with_their_perturbation(split):
    worst = results(SHAN, split)["position replaced"].worst
    for case in worst:
        assert case.caption in split.captions_of_photos[case.row]
        pair = {"left", "right"} & (set(tokenize(case.caption)) ^ set(tokenize(case.perturbation)))
        assert pair == {"left", "right"}
    assert "meta" not in vars(split)  # captions need no shard
    gaps = [case.score - case.perturbed_score for case in worst]
    assert gaps == sorted(gaps)
