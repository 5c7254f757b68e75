"""Tests of the loaded registered model: its tasks, its use of images, and bad input."""

import io
import time
from copy import deepcopy
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
from pipelines.models.params import Params
from shan_model.scoring import score_matrix
from tests.pipelines.models.conftest import IMAGES, SENTENCES, all_pairs, png, regions_of
from tests.support.bad_stores import UNREADABLE, at_every_expiry, no_s3_server
from tests.support.registered import CAPTIONS
from tests.support.web_server import drips, web_server


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


def test_a_copy_gives_the_same_scores(model: RegisteredMatcher):
    frame = pd.DataFrame({"image": IMAGES[:1], "caption": SENTENCES[:1]})
    assert deepcopy(model).predict(frame, None) == model.predict(frame, None)


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


BAD_IMAGES: dict[str, tuple[Any, str]] = {
    "no such image": ("nowhere.png", "nowhere.png: cannot be read: No such file or directory; correct the path or"),
    "path of a URI": (
        Path("s3://bucket/a.png"),
        "s3:/bucket/a.png: .* has one slash after the scheme; give a URI as text",
    ),
    "text": (b"some text", "not an image of a known format"),
    "truncated": (
        png((1, 2, 3), 99)[:-40],
        "image data is truncated or corrupt; correct the path or replace the image",
    ),
    "detector": (
        png((1, 2, 3), 13),
        r"the detector fails \(ZeroDivisionError: thirteen\); replace the image, or correct the detector",
    ),
    "type": (3.5, "is float; give bytes"),
    "empty": (" ", "is empty text; give bytes"),
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
        assert set(result.caption_row) == {0, 1}
    elif task == "encode":
        assert result.loc[1, ["region_vectors", "boxes"]].tolist() == [None, None]
        assert result.tokens[1] == ["<start>", "two", "men", "<end>"]
    else:
        assert result.iloc[1].tolist() == [None] * len(result.columns)
    if task in ("explain", "encode"):
        assert str(result.iloc[[0, 2]].reset_index(drop=True)) == str(good)


def test_a_bad_caption_leaves_its_image_to_tasks_without_pairs(model: RegisteredMatcher):
    frame = pd.DataFrame({"image": [IMAGES[0], IMAGES[1], None], "caption": ["?!", None, "a dog"]})
    ranked = model.predict(frame, {"task": "rank", "on_error": "null"})
    assert set(ranked.image_row) == {0, 1}
    assert set(ranked.caption_row) == {2}
    encoded = model.predict(frame, {"task": "encode", "on_error": "null"})
    assert [value is None for value in encoded.region_vectors] == [False, False, True]
    assert [value is None for value in encoded.word_vectors] == [True, True, False]


def test_other_bad_input(model: RegisteredMatcher):
    pair = pd.DataFrame({"image": [IMAGES[0]], "caption": ["a dog"]})
    regions = np.ones((3, 8), np.float32)
    narrow = pd.DataFrame({"regions": [regions, regions[:, :5]], "caption": ["a", "b"]})
    for frame, params, said in (
        (pair, {"task": "classify"}, "params: task is 'classify'; choose one of"),
        (pair, {"fingerprint": "other-1"}, "params: fingerprint is other-1, and this model was made"),
        (pair, {"device": "cuda"}, "params: device is cuda, but torch finds no GPU"),
        (pair[["image"]], {"task": "rank"}, "the rows have 1 images or regions and 0 captions; give at"),
        (pair[["image"]], None, "the input needs column caption"),
        (pair.rename(columns=str.title), None, "the input has no column image, regions or caption"),
        (narrow, None, "row 1, column regions: has shape"),
    ):
        if params == {"device": "cuda"} and torch.cuda.is_available():
            continue
        with pytest.raises(MlflowException, match=said):
            model.predict(frame, params)
    fingerprint = {"fingerprint": model.detector.stored.fingerprint}
    assert len(model.predict(pair, fingerprint)) == 1


def test_a_store_that_refuses_is_an_error_with_the_row(model: RegisteredMatcher, tmp_path: Path):
    """Also where bad rows return null: the image may be intact."""
    paths = [str(tmp_path / f"{number}.png") for number in range(2)]
    for path, image in zip(paths, IMAGES, strict=False):
        Path(path).write_bytes(image)
    frame = pd.DataFrame({"image": paths, "caption": "a dog"})
    *refused, scores = at_every_expiry(torch.inference_mode()(lambda: model._predict(frame, Params(on_error="null"))))
    assert [str(error).split(":")[0] for error in refused] == ["row 0, column image", "row 1, column image"]
    assert "s3://bucket" in str(refused[0])
    assert len(scores) == 2


def test_a_store_that_is_down_is_status_503(model: RegisteredMatcher):
    frame = pd.DataFrame({"image": [IMAGES[0], "s3://bucket/photos/a.jpg"], "caption": "a dog"})
    with no_s3_server(), pytest.raises(MlflowException, match=r"^row 1, .*no S3 server responds") as caught:
        model.predict(frame, {"on_error": "null"})
    assert caught.value.get_http_status_code() == 503


@pytest.mark.skipif(not UNREADABLE.exists(), reason="needs /proc")
def test_a_disk_that_fails_is_an_error_with_the_row(model: RegisteredMatcher, tmp_path: Path):
    (tmp_path / "a.png").symlink_to(UNREADABLE)
    frame = pd.DataFrame({"image": [IMAGES[0], str(tmp_path / "a.png")], "caption": "a dog"})
    with pytest.raises(MlflowException, match=r"^row 1, column image: .*cannot be accessed") as caught:
        model.predict(frame, {"on_error": "null"})
    assert caught.value.get_http_status_code() == 503


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
