"""The tasks of a registered model: rankings, explanations and encodings, from the network's own numbers."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.models import infer_signature

from pipelines.models.matcher import RegisteredMatcher
from pipelines.models.signature import signature
from pipelines.models.tasks import OUTPUTS, TASKS, WORD_FIELDS
from shan_model.scoring import score_matrix
from tests.pipelines.models.conftest import IMAGES, SENTENCES, Plugin, all_pairs, regions_of
from tests.support import ROOT
from tests.support.registered import matcher, tiny_network


def test_rank_orders_captions_for_images_and_images_for_captions(model: RegisteredMatcher):
    scores = score_matrix(model.shan, regions_of(model, IMAGES), SENTENCES)
    frame = pd.DataFrame({"image": [*IMAGES, None, None], "caption": SENTENCES})
    by_image = model.predict(frame, {"task": "rank", "top_k": 2})
    assert len(by_image) == 2 * len(IMAGES)
    for image in range(len(IMAGES)):
        rows = by_image[by_image.image_row == image]
        best = np.argsort(-scores[image], kind="stable")[:2]
        assert rows["rank"].tolist() == [1, 2]
        assert rows.caption.tolist() == [SENTENCES[c] for c in best]
        assert rows.caption_row.tolist() == best.tolist()
        np.testing.assert_allclose(rows.score, scores[image, best], atol=1e-5)
    by_caption = model.predict(frame, {"task": "rank", "query": "caption"})
    assert len(by_caption) == len(IMAGES) * len(SENTENCES)
    for caption, sentence in enumerate(SENTENCES):
        rows = by_caption[by_caption.caption_row == caption]
        assert rows.image_row.tolist() == np.argsort(-scores[:, caption], kind="stable").tolist()
        assert set(rows.caption) == {sentence}


@pytest.mark.parametrize("task", TASKS)
def test_columns_are_those_of_signature_and_documentation(model: RegisteredMatcher, task: str):
    result = model.predict(all_pairs(), {"task": task})
    columns = ["score"] if isinstance(result, list) else result.columns.tolist()
    assert tuple(columns) == OUTPUTS[task]
    outputs = {spec.name: spec.type for spec in signature().outputs.inputs}
    table = pd.DataFrame({"score": result}) if isinstance(result, list) else result
    for name in columns:
        values = table[name].tolist()
        assert {v.dtype.name for v in values if isinstance(v, np.ndarray)} <= {"float32"}, name
        (found,) = infer_signature([v.tolist() if isinstance(v, np.ndarray) else v for v in values]).inputs
        assert str(found.type) == str(outputs[name]).replace("Array(float)", "Array(double)").replace(
            "(optional)", "(required)"
        ), name
    page = (ROOT / "docs" / "how-to" / "use-a-registered-model.md").read_text(encoding="utf-8")
    (row,) = re.findall(rf"^\| `{task}` \| ((?:a list|table).*) \|$", page, re.MULTILINE)
    documented = set(re.findall(r"`(\w+)`", row)) or {"score"}
    assert documented == set(columns)
    if task == "explain":
        word = outputs["words"].dtype
        assert {spec.name for spec in word.properties} == set(result.words[0][0]) == set(WORD_FIELDS)
        table = page.split("| field of a word | content |\n|---|---|\n")[1].split("\n\n")[0]
        named = [name for line in table.splitlines() for name in re.findall(r"`(\w+)`", line.split("|")[1])]
        assert tuple(named) == WORD_FIELDS


@pytest.mark.parametrize("query", ["image", "caption"])
def test_the_best_of_batches_are_the_best_of_all(model: RegisteredMatcher, query: str):
    images = [*IMAGES, *IMAGES[::-1]]
    frame = pd.DataFrame({"image": [*images, *[None] * len(SENTENCES)], "caption": [*[None] * len(images), *SENTENCES]})
    everything = model.predict(frame, {"task": "rank", "query": query})
    some = model.predict(frame, {"task": "rank", "query": query, "top_k": 2, "batch_size": 1})
    best = everything[everything["rank"] <= 2].reset_index(drop=True)
    assert some.drop(columns="score").equals(best.drop(columns="score"))
    np.testing.assert_allclose(some.score, best.score, atol=1e-5)


def test_explain_encodes_each_caption_once(model: RegisteredMatcher, monkeypatch: pytest.MonkeyPatch):
    encoded: list[str] = []
    encode = model.shan.encode_captions
    monkeypatch.setattr(model.shan, "encode_captions", lambda captions: encoded.extend(captions) or encode(captions))
    model.predict(all_pairs(), {"task": "explain"})
    assert sorted(encoded) == sorted(SENTENCES)


def test_explain_names_the_region_of_each_word(model: RegisteredMatcher):
    frame = all_pairs()
    explained = model.predict(frame, {"task": "explain"})
    np.testing.assert_allclose(explained.score.astype(float), model.predict(frame, None), atol=1e-6)
    levels = explained[["S_L2L", "S_G2L", "S_G2G"]].astype(float)
    np.testing.assert_allclose(levels.sum(axis=1), explained.score.astype(float), atol=1e-4)
    words = explained.words[2]
    assert [(word["word"], word["known"]) for word in words] == [(word, True) for word in SENTENCES[2].split()]
    assert [(word["word"], word["known"]) for word in explained.words[4]] == [("unknown", False), ("words", False)]
    with torch.inference_mode():
        encoded = model.shan.encode_photos(torch.from_numpy(regions_of(model, IMAGES[:1])))
        (words_WD,) = model.shan.encode_captions([SENTENCES[2]])
        attention_RW = model.shan.alignment.word_attention(encoded, words_WD)[0]
    for position, word in enumerate(words, 1):
        region = int(attention_RW[:, position].argmax())
        assert word["region"] == region
        assert word["weight"] == pytest.approx(float(attention_RW[region, position]), abs=1e-5)
        assert word["box"] == [region * 4, 0, region * 4 + 4, 12]
        assert word["class"] == "stripe"


@pytest.mark.parametrize("other", ["scan-t2i", "sgr", "tern"])
def test_other_matchers_have_no_levels(plugin: Plugin, tmp_path: Path, other: str):
    model = matcher(tmp_path / "other", tiny_network(8, matcher=other), plugin.package("reference"))
    explained = model.predict(all_pairs()[:1], {"task": "explain"})
    assert explained.S_L2L.tolist() == [None]
    assert len(explained.words[0]) == len(SENTENCES[0].split())


def test_encode_returns_regions_and_words_of_the_joint_space(model: RegisteredMatcher):
    frame = pd.DataFrame({"image": [IMAGES[0], None], "caption": [None, "two men"]})
    encoded = model.predict(frame, {"task": "encode"})
    assert encoded.region_vectors[0].shape == (3, 16)
    assert encoded.boxes[0].shape == (3, 4)
    assert encoded.word_vectors[1].shape == (4, 16)
    assert encoded.tokens[1] == ["<start>", "two", "men", "<end>"]
    assert encoded.region_vectors[1] is encoded.word_vectors[0] is encoded.tokens[0] is None
