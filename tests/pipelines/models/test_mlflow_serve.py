"""A registered model behind `mlflow models serve`, over HTTP, in a process that does not find the project."""

import base64
import io
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image

from tests.support.photos import Photos
from tests.support.registered import (
    CAPTIONS,
    embedded_detector,
    matcher,
    save_version,
    serving,
    tiny_network,
    without_project,
)
from tests.support.servers import S3Server

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, s3_server: S3Server) -> Iterator[str]:
    """Serves a model with the `embedded` detector; returns the address of its predictions."""
    folder = tmp_path_factory.mktemp("served")
    model = save_version(folder / "version", tiny_network(), embedded_detector())
    with serving(sys.executable, str(model), folder, without_project(folder) | s3_server.environment()) as address:
        yield address


def post(server: str, rows: list[dict], **params: object) -> requests.Response:
    return requests.post(server, json={"dataframe_records": rows, "params": params}, timeout=300)


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def photo_rows(photos: Photos) -> list[dict]:
    names = sorted(photos.names())[:2]
    return [
        {"image": encoded((photos.folder / name).read_bytes()), "caption": caption}
        for name in names
        for caption in CAPTIONS[:2]
    ]


def test_a_base64_photo_has_the_scores_of_this_process(server: str, real_photos: Photos, tmp_path: Path):
    import pandas as pd

    rows = photo_rows(real_photos)
    expected = matcher(tmp_path, tiny_network(), embedded_detector()).predict(pd.DataFrame(rows), None)
    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(lambda row: post(server, [row]), rows * 2))
    for response, score in zip(responses, expected * 2, strict=True):
        assert response.status_code == 200, response.text
        np.testing.assert_allclose(response.json()["predictions"], [score], atol=1e-5)
    np.testing.assert_allclose(post(server, rows).json()["predictions"], expected, atol=1e-5)
    explained = post(server, rows[:1], task="explain").json()["predictions"]
    assert [word["word"] for word in explained[0]["words"]] == CAPTIONS[0].split()
    ranked = post(server, rows, task="rank", query="caption", top_k=1).json()["predictions"]
    assert [hit["caption"] for hit in ranked] == list(CAPTIONS[:2])
    regions = post(server, rows[:1], task="encode").json()["predictions"][0]["region_vectors"]
    assert np.shape(regions) == (36, 16)


def test_bad_row_returns_status_400_or_null(server: str, real_photos: Photos):
    rows = [*photo_rows(real_photos)[:1], {"image": encoded(b"no image" * 20), "caption": "a dog"}]
    response = post(server, rows)
    assert response.status_code == 400
    assert "row 1, column image: not an image of a known format" in response.json()["message"]
    response = post(server, rows, on_error="null")
    assert response.status_code == 200
    assert "NaN" not in response.text
    first, second = response.json()["predictions"]
    assert isinstance(first, float)
    assert second is None
    assert post(server, [{"image": None, "caption": "a dog"}]).status_code == 400
    assert "choose one of" in post(server, rows, task="classify").json()["message"]


def test_a_mistyped_bucket_returns_status_400_or_null(server: str, real_photos: Photos):
    """Not a failure of the other rows: their images can be read."""
    rows = [*photo_rows(real_photos)[:1], {"image": "s3://no-such-bucket/a.jpg", "caption": "a dog"}]
    response = post(server, rows)
    assert response.status_code == 400
    assert "row 1, column image: s3://no-such-bucket: the bucket 'no-such-bucket' does" in response.json()["message"]
    response = post(server, rows, on_error="null")
    assert response.status_code == 200, response.text
    assert [type(score) for score in response.json()["predictions"]] == [float, type(None)]


def test_an_image_of_20_mb_is_accepted(server: str):
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (2600, 2600, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "PNG", compress_level=0)
    assert buffer.tell() > 20e6
    response = post(server, [{"image": encoded(buffer.getvalue()), "caption": "noise"}])
    assert response.status_code == 200, response.text[:500]
    assert np.isfinite(response.json()["predictions"]).all()
