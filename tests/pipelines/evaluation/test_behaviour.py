"""Behavioural tests find what is wrong with models that are wrong in one known way, and nothing with a sound one."""

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from jobs import behaviour as job
from pipelines.datasets.manifest import Manifest
from pipelines.evaluation.behaviour import Outcome, behaviour
from pipelines.features.feature_set import FeatureSet, Split
from shan_model.config import ModelConfig
from shan_model.model import SHAN
from shan_model.vocabulary import Vocabulary, tokenize
from tests.support.feature_sets import FEATURE_DIM, manifest, write_photos, write_set
from tests.support.small_models import write_checkpoint

SAID = "a small red dog left of a blue ball in photo"


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> FeatureSet:
    folder = tmp_path_factory.mktemp("features")
    rows = list(manifest(folder, 60, SAID).photos())
    rows[5] = replace(rows[5], captions=("a large green cat is right of a man", "a boy"))
    photos = Manifest.build("tiny", str(folder / "photos"), rows)
    write_photos(photos)
    return write_set(folder, photos)


@pytest.fixture(scope="module")
def split(features: FeatureSet) -> Split:
    return features.split("test")


def made(kind: type[SHAN], split: Split) -> SHAN:
    torch.manual_seed(0)
    config = ModelConfig(region_dim=FEATURE_DIM, joint_dim=8, word_dim=6)
    return kind(config, Vocabulary.build(split.captions)).eval()


def outcomes(kind: type[SHAN], split: Split) -> dict[str, Outcome]:
    return {outcome.name: outcome for outcome in behaviour(made(kind, split), split)}


class BagOfWords(SHAN):
    """Words in the order of the alphabet."""

    def encode_captions(self, captions: Sequence[str]) -> list[Tensor]:
        return super().encode_captions([" ".join(sorted(tokenize(caption))) for caption in captions])


class ReadsCapitals(SHAN):
    """A capital letter changes everything."""

    def encode_captions(self, captions: Sequence[str]) -> list[Tensor]:
        words = super().encode_captions(captions)
        return [-w if c != c.lower() else w for w, c in zip(words, captions, strict=True)]


class FirstRegionOnly(SHAN):
    """The order of regions matters."""

    def encode_photos(self, regions_BRF: Tensor) -> Tensor:
        return super().encode_photos(regions_BRF[:, :1])


class CountsPhotos(SHAN):
    """A photo's encoding depends on its place in a batch."""

    def encode_photos(self, regions_BRF: Tensor) -> Tensor:
        return super().encode_photos(regions_BRF) + torch.arange(len(regions_BRF))[:, None, None]


class NoWordsNoNumber(SHAN):
    """Divides by the number of words."""

    def encode_captions(self, captions: Sequence[str]) -> list[Tensor]:
        words = super().encode_captions(captions)
        return [w / 0 if not tokenize(c) else w for w, c in zip(words, captions, strict=True)]


SAME = ("case and spaces", "photo order", "duplicates", "region order", "odd texts")


def test_a_sound_model_fails_none_of_what_should_make_no_difference(split):
    found = outcomes(SHAN, split)
    assert {name: found[name].passed for name in SAME} == {name: found[name].cases for name in SAME}
    photos = len(split)
    assert found["photo order"].cases == found["duplicates"].cases == found["region order"].cases == photos**2
    assert found["case and spaces"].cases == 3 * len(split.captions)
    assert {"word order", "colour swapped", "size swapped", "position swapped", "attributes exchanged"} <= found.keys()
    assert "shape swapped" not in found  # no case


@pytest.mark.parametrize(
    ("kind", "failed"),
    [
        (ReadsCapitals, {"case and spaces"}),
        (FirstRegionOnly, {"region order"}),
        (CountsPhotos, {"photo order", "duplicates"}),
        (NoWordsNoNumber, {"odd texts"}),
    ],
)
def test_what_should_make_no_difference_but_does_is_found(split, kind: type[SHAN], failed: set[str]):
    found = outcomes(kind, split)
    assert {name for name in SAME if found[name].passed < found[name].cases} == failed
    for name in failed:
        assert found[name].worst


def test_a_bag_of_words_prefers_no_order(split):
    found = outcomes(BagOfWords, split)
    for name in ("word order", "attributes exchanged"):
        assert found[name].cases > 0
        assert found[name].passed == 0
        assert found[name].worst[0].before == pytest.approx(found[name].worst[0].after, abs=1e-6)
    assert {abs(e.before - e.after) > 1e-5 for e in found["colour swapped"].worst} == {True}


def test_swapped_words_are_what_the_report_says(split):
    worst = outcomes(SHAN, split)["position swapped"].worst
    for example in worst:
        assert example.said in split.meta[example.row]["captions"]
        pair = {"left", "right"} & (set(tokenize(example.said)) ^ set(tokenize(example.changed)))
        assert pair == {"left", "right"}
    gaps = [example.before - example.after for example in worst]
    assert gaps == sorted(gaps)


def test_the_command_prints_rates_and_writes_worst_cases_with_photos(features, tmp_path, monkeypatch, capsys):
    uri = write_checkpoint(tmp_path / "best", made(SHAN, features.split("test")), features)
    for report in ("b.md", "b.html"):
        options = [f"--model={uri}", f"--features={features.uri}", f"--report={tmp_path / report}"]
        monkeypatch.setattr(sys, "argv", ["behaviour", *options])
        job.main()
    printed = capsys.readouterr().out
    markdown, page = (Path(tmp_path / name).read_text() for name in ("b.md", "b.html"))
    rates = re.findall(r"^\| photo order \| .* \| 100 \| (.*) \|  \|$", printed, re.MULTILINE)
    assert rates == ["100.0 %", "100.0 %"]
    assert "**word order: worst of" in markdown
    assert page.count("src='data:image/jpeg;base64,") > 20
    assert page.count("class=gone") == 0
