"""Thumbnails: their size, and photos that cannot be read."""

import io
from pathlib import Path

import pytest
from PIL import Image

from pipelines.service.errors import ServiceError
from pipelines.service.thumbnail import SIDE, read_thumbnail
from tests.support.bad_stores import no_s3_server


def test_a_thumbnail_is_smaller_and_states_the_original_size(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated: the upright photo is higher than wide
    Image.new("RGB", (2000, 1000), (200, 10, 10)).save(tmp_path / "p.jpg", exif=exif)
    found = read_thumbnail(str(tmp_path / "p.jpg"))
    assert (found.width, found.height) == (1000, 2000)
    with Image.open(io.BytesIO(found.jpeg)) as image:
        assert (image.format, image.size) == ("JPEG", (SIDE // 2, SIDE))


def test_a_small_photo_keeps_its_size(tmp_path: Path):
    Image.new("RGBA", (30, 20)).save(tmp_path / "p.png")
    with Image.open(io.BytesIO(read_thumbnail(str(tmp_path / "p.png")).jpeg)) as image:
        assert image.size == (30, 20)


def test_a_photo_that_cannot_be_read_does_not_show_its_place(tmp_path: Path):
    (tmp_path / "text.png").write_text("text")
    for name in ("none.png", "text.png"):
        with pytest.raises(ServiceError) as caught:
            read_thumbnail(str(tmp_path / name))
        assert caught.value.status == 404
        assert str(tmp_path) not in str(caught.value)
    with (
        no_s3_server(),
        pytest.raises(ServiceError, match="the store of the photo cannot be read") as caught,
    ):
        read_thumbnail("s3://bucket/photos/a.jpg")
    assert caught.value.status == 503
