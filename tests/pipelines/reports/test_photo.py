"""Photos on a page: boxes and labels in the right place, and a text where a photo cannot be read."""

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.reports import photo
from pipelines.reports.photo import COLOURS, draw_boxes, photo_html
from tests.support.web_server import drips, web_server


def image_of(html: str) -> Image.Image:
    data = re.search(r"base64,([^']*)'", html)
    assert data is not None
    return Image.open(io.BytesIO(base64.b64decode(data[1])))


def test_a_box_is_drawn_in_pixels_of_the_original_photo(tmp_path: Path):
    """A photo that is larger than the decoder's output, shown at a tenth: the edges of the box match."""
    Image.new("RGB", (4000, 2000), "white").save(tmp_path / "large.png")
    image = image_of(photo_html(str(tmp_path / "large.png"), [("", (1000, 500, 3000, 1500))], 400))
    assert image.size == (400, 200)
    pixels = np.asarray(image).astype(int)
    dark = pixels.sum(axis=2) < 600
    assert dark[100].nonzero()[0].min() in (99, 100, 101)
    assert dark[100].nonzero()[0].max() in (299, 300, 301)
    assert dark[:, 250].nonzero()[0].min() in (49, 50, 51)
    assert dark[:, 250].nonzero()[0].max() in (149, 150, 151)


def test_a_tall_photo_is_shown_narrower(tmp_path: Path):
    Image.new("RGB", (10, 3000)).save(tmp_path / "tall.png")
    assert image_of(photo_html(str(tmp_path / "tall.png"), [], 300)).size == (2, 450)


@pytest.mark.parametrize("uri", ["nowhere/a.jpg", "tar://a.jpg::nowhere/a.tar", "ftp://host/a.jpg"])
def test_unreadable_photo_is_replaced_by_its_name(uri: str):
    assert photo_html(uri, [], 300).startswith(f"<p class=gone>{uri}: ")


def test_a_page_gives_up_a_web_server_without_responses(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(photo, "LIMITS", replace(photo.LIMITS, deadline_s=5, silence_s=0.2))
    with web_server(drips(b"", b"", 1)) as (url, connections):
        pictures = [photo_html(url, [], 300) for _ in range(9)]
    assert all(picture.startswith("<p class=gone>http") for picture in pictures)
    assert "gave no response for" in pictures[-1]
    assert len(connections) < 9


def test_labels_do_not_cover_each_other():
    image = Image.new("RGB", (300, 300), "white")
    draw_boxes(image, [(f"person 0.9{i}", (20, 20, 280, 280)) for i in range(8)])
    pixels = np.asarray(image).reshape(-1, 3)
    for colour in COLOURS:
        rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert (pixels == rgb).all(axis=1).sum() > 400, f"the label in {colour} is covered"
