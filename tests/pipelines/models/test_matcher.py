"""Tests of the loaded registered model: its tasks, its use of images, and bad input."""

import io
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException
from PIL import Image

from pipelines.datasets.decode import DecodedPhoto
from pipelines.datasets.http_download import SILENT_PHOTOS
from pipelines.models import images as images_module
from pipelines.models.detection import ModelDetector
from pipelines.models.matcher import RegisteredMatcher
from shan_model.scoring import score_matrix
from tests.pipelines.models.conftest import Plugin
from tests.support.registered import CAPTIONS, matcher, tiny_network
from tests.support.web_server import drips, web_server

SENTENCES = [*CAPTIONS, "unknown words"]


def png(colour: tuple[int, int, int], side: int = 12) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(buffer, "PNG")
    return buffer.getvalue()


IMAGES = [png((200, 10, 30)), png((0, 120, 30)), png((70, 70, 220))]


@pytest.fixture
def model(plugin: Plugin, tmp_path: Path) -> RegisteredMatcher:
    return matcher(tmp_path / "model", tiny_network(8), plugin.package("reference"))


def all_pairs() -> pd.DataFrame:
    return pd.DataFrame([{"image": image, "caption": caption} for image in IMAGES for caption in SENTENCES])


def regions_of(model: RegisteredMatcher, images: list[bytes]) -> np.ndarray:
    """Returns the features of images by the detector itself."""
    from pipelines.models.images import read_image

    model.detector.require("cpu")
    return np.stack([found.features_RF for found in model.detector([read_image(image) for image in images], "cpu")])


def test_scores_are_those_of_the_network(model: RegisteredMatcher):
    regions = regions_of(model, IMAGES)
    expected = score_matrix(model.shan, regions, SENTENCES)
    by_image = model.predict(all_pairs(), None)
    np.testing.assert_allclose(np.reshape(by_image, expected.shape), expected, atol=1e-5)
    frame = pd.DataFrame(
        [{"regions": regions_RF, "caption": caption} for regions_RF in regions for caption in SENTENCES]
    )
    np.testing.assert_allclose(model.predict(frame, {"batch_size": 2}), by_image, atol=1e-5)
    bf16 = model.predict(frame, {"precision": "bf16"})
    assert np.abs(np.subtract(bf16, by_image)).max() < 0.05


def test_each_image_is_decoded_and_detected_once(model: RegisteredMatcher, monkeypatch: pytest.MonkeyPatch):
    seen: list[DecodedPhoto] = []
    detect = ModelDetector.__call__
    monkeypatch.setattr(
        ModelDetector, "__call__", lambda self, photos, device: seen.extend(photos) or detect(self, photos, device)
    )
    model.predict(all_pairs(), {"batch_size": 2})
    assert len(seen) == len(IMAGES)


def test_a_silent_web_server_is_given_up_for_the_request(model: RegisteredMatcher, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(images_module, "DOWNLOAD_S", 0.6)
    with web_server(drips(b"", b"", 0.05)) as (uri, connections):
        frame = pd.DataFrame({"image": [f"{uri}?{number}" for number in range(12)] + IMAGES[:1], "caption": "a dog"})
        scores = model.predict(frame, {"on_error": "null", "batch_size": 2})
        assert SILENT_PHOTOS <= len(connections) <= 2 * SILENT_PHOTOS
    assert scores[:12] == [None] * 12
    assert scores[12] is not None


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


def test_explain_names_the_region_of_each_word(model: RegisteredMatcher):
    frame = all_pairs()
    explained = model.predict(frame, {"task": "explain"})
    np.testing.assert_allclose(explained.score.astype(float), model.predict(frame, None), atol=1e-6)
    levels = explained[["S_L2L", "S_G2L", "S_G2G"]].astype(float)
    np.testing.assert_allclose(levels.sum(axis=1), explained.score.astype(float), atol=1e-4)
    words = explained.words[2]
    assert [word["word"] for word in words] == SENTENCES[2].split()
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


def test_other_matchers_have_no_levels(plugin: Plugin, tmp_path: Path):
    model = matcher(tmp_path / "scan", tiny_network(8, matcher="scan-t2i"), plugin.package("reference"))
    explained = model.predict(all_pairs()[:1], {"task": "explain"})
    assert explained.S_L2L.tolist() == [None]
    assert len(explained.words[0]) == len(SENTENCES[0].split())


def test_encode_returns_regions_and_words_of_the_joint_space(model: RegisteredMatcher):
    frame = pd.DataFrame({"image": [IMAGES[0], None], "caption": [None, "two men"]})
    encoded = model.predict(frame, {"task": "encode"})
    assert encoded.regions[0].shape == (3, 16)
    assert encoded.boxes[0].shape == (3, 4)
    assert encoded.words[1].shape == (4, 16)
    assert encoded.tokens[1] == ["<start>", "two", "men", "<end>"]
    assert encoded.regions[1] is encoded.words[0] is encoded.tokens[0] is None


BAD_IMAGES: dict[str, tuple[Any, str]] = {
    "no such image": ("nowhere.png", "nowhere.png: cannot be read"),
    "text": (b"some text", "not an image of a known format"),
    "truncated": (png((1, 2, 3), 99)[:-40], "image data is truncated or corrupt"),
    "detector": (png((1, 2, 3), 13), r"the detector fails \(ZeroDivisionError"),
    "type": (3.5, "is float; give bytes"),
}


@pytest.mark.parametrize("task", ["score", "explain", "encode", "rank"])
@pytest.mark.parametrize("kind", list(BAD_IMAGES))
def test_bad_image_returns_error_with_row_or_null(model: RegisteredMatcher, task: str, kind: str):
    value, said = BAD_IMAGES[kind]
    frame = pd.DataFrame({"image": [IMAGES[0], value, IMAGES[1]], "caption": ["a dog", "two men", "a dog"]})
    with pytest.raises(MlflowException, match=f"row 1, column image: {said}.*'on_error': 'null'") as caught:
        model.predict(frame, {"task": task})
    assert caught.value.get_http_status_code() == 400
    result = model.predict(frame, {"task": task, "on_error": "null"})
    good = model.predict(frame.iloc[[0, 2]], {"task": task})
    if task == "score":
        assert result == [good[0], None, good[1]]
    elif task == "rank":
        assert set(result.image_row) == {0, 2}
    else:
        assert result.iloc[1].tolist() == [None] * len(result.columns)
        assert str(result.iloc[[0, 2]].reset_index(drop=True)) == str(good)


def test_other_bad_input(model: RegisteredMatcher):
    pair = pd.DataFrame({"image": [IMAGES[0]], "caption": ["a dog"]})
    regions = np.ones((3, 8), np.float32)
    narrow = pd.DataFrame({"regions": [regions, regions[:, :5]], "caption": ["a", "b"]})
    for frame, params, said in (
        (pair, {"task": "classify"}, "params: task is 'classify'; choose one of"),
        (pair, {"fingerprint": "other-1"}, "params: fingerprint is other-1, and this model was made"),
        (pair, {"device": "cuda"}, "params: device is cuda, but torch finds no GPU"),
        (pair[["image"]], {"task": "rank"}, "task rank needs at least one image .* and one caption"),
        (pair[["image"]], None, "the input needs column caption"),
        (narrow, None, "row 1, column regions: has shape"),
    ):
        if params == {"device": "cuda"} and torch.cuda.is_available():
            continue
        with pytest.raises(MlflowException, match=said):
            model.predict(frame, params)
    fingerprint = {"fingerprint": model.detector.stored.fingerprint}
    assert len(model.predict(pair, fingerprint)) == 1


def test_empty_long_and_unusual_input_has_a_result(model: RegisteredMatcher):
    empty = pd.DataFrame({"image": [], "caption": []})
    assert model.predict(empty, None) == []
    for task in ("rank", "explain", "encode"):
        assert len(model.predict(empty, {"task": task})) == 0
    animated = io.BytesIO()
    frames = [Image.new("RGB", (12, 12), (shade, 0, 0)) for shade in (10, 200)]
    frames[0].save(animated, "GIF", save_all=True, append_images=frames[1:])
    frame = pd.DataFrame({"image": [animated.getvalue(), IMAGES[0]], "caption": ["a dog", "a dog " * 250]})
    scores = model.predict(frame, None)
    assert np.isfinite(scores).all()
    shuffled = pd.DataFrame({"image": IMAGES[:2], "caption": CAPTIONS[:2]}, index=[7, 7])
    assert len(model.predict(shuffled, None)) == 2


def test_100_000_rows_of_few_images_and_captions(model: RegisteredMatcher):
    frame = pd.DataFrame({"image": IMAGES * 40_000, "caption": list(CAPTIONS) * 30_000})[:100_000]
    started = time.perf_counter()
    scores = model.predict(frame, None)
    assert len(scores) == 100_000
    assert time.perf_counter() - started < 30
    assert scores[:12] == scores[12:24]
