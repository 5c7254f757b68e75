"""Decoding: upright RGB pixels, or a reason that is the same on every run."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from pipelines.photos import PhotoError, load_photo


def jpeg(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def chelsea() -> Image.Image:
    return Image.fromarray(skimage.data.chelsea())


def test_pixels_and_checksum(tmp_path: Path, chelsea: Image.Image):
    path = tmp_path / "c.png"
    chelsea.save(path)
    photo = load_photo(path)
    assert np.array_equal(photo.pixels, skimage.data.chelsea())
    assert photo.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_exif_orientation_is_applied(tmp_path: Path, chelsea: Image.Image):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show rotated by 90 degrees clockwise
    (tmp_path / "turned.jpg").write_bytes(jpeg(chelsea, exif=exif.tobytes(), quality=95))
    photo = load_photo(tmp_path / "turned.jpg")
    upright = np.rot90(skimage.data.chelsea(), -1)
    assert photo.pixels.shape == upright.shape
    assert np.abs(photo.pixels.astype(int) - upright).mean() < 5


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGBA", "1", "I;16"])
def test_every_mode_becomes_rgb(tmp_path: Path, chelsea: Image.Image, mode: str):
    image = chelsea.convert("L") if mode == "I;16" else chelsea.convert(mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 256)
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    image.save(path)
    photo = load_photo(path)
    assert photo.pixels.shape == (300, 451, 3)
    assert photo.pixels.dtype == np.uint8


def bad_photos(chelsea: Image.Image) -> dict[str, tuple[bytes, str]]:
    good = jpeg(chelsea)
    return {
        "empty.jpg": (b"", "not an image of a known format"),
        "text.jpg": (b"hello, I am no photo", "not an image of a known format"),
        "cut.jpg": (good[: len(good) // 2], "image data is truncated or corrupt"),
        "header.png": (b"\x89PNG\r\n\x1a\n" + b"\x00" * 50, "not an image of a known format|truncated or corrupt"),
    }


@pytest.mark.parametrize("name", ["empty.jpg", "text.jpg", "cut.jpg", "header.png"])
def test_damaged_photos_have_a_reason_that_repeats(tmp_path: Path, chelsea: Image.Image, name: str):
    data, reason = bad_photos(chelsea)[name]
    (tmp_path / name).write_bytes(data)
    messages = set()
    for _ in range(3):
        with pytest.raises(PhotoError, match=reason) as caught:
            load_photo(tmp_path / name)
        messages.add(str(caught.value))
    assert len(messages) == 1


def test_missing_file_and_decompression_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chelsea: Image.Image):
    with pytest.raises(PhotoError, match="cannot be read: No such file"):
        load_photo(tmp_path / "gone.jpg")
    chelsea.save(tmp_path / "big.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 451 * 300 - 1)
    with pytest.raises(PhotoError, match="more pixels than a photo has"):
        load_photo(tmp_path / "big.png")
