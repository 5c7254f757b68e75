"""Tests of decoding: upright RGB pixels, or a reproducible reason for the rejection."""

import io
import struct
import zlib

import numpy as np
import pytest
import skimage.data
from PIL import Image

from pipelines.datasets.decode import LONGEST_SIDE, PhotoError, decode_photo

CHELSEA = skimage.data.chelsea()


def encoded(image: Image.Image, format_: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def chelsea() -> Image.Image:
    return Image.fromarray(CHELSEA)


def test_a_lossless_photo_keeps_its_pixels(chelsea: Image.Image):
    photo = decode_photo(encoded(chelsea))
    assert np.array_equal(photo.pixels, CHELSEA)
    assert (photo.width, photo.height) == (451, 300)


# How each EXIF orientation was stored, as array operations on the upright photo (EXIF 2.3, tag 0x0112).
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", STORED)
def test_every_exif_orientation_is_applied(orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](CHELSEA)))
    photo = decode_photo(encoded(stored, exif=exif.tobytes()))
    assert np.array_equal(photo.pixels, CHELSEA)
    assert (photo.width, photo.height) == (451, 300)


def test_corrupt_exif_does_not_reject_a_photo(chelsea: Image.Image):
    data = encoded(chelsea, "JPEG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")
    assert decode_photo(data).pixels.shape == (300, 451, 3)


def test_cmyk_is_converted_approximately(chelsea: Image.Image):
    photo = decode_photo(encoded(chelsea.convert("CMYK"), "JPEG", quality=95))
    assert np.abs(photo.pixels.astype(int) - CHELSEA).mean() < 3


def test_a_palette_is_applied(chelsea: Image.Image):
    palette = chelsea.convert("P", palette=Image.Palette.ADAPTIVE)
    assert np.array_equal(decode_photo(encoded(palette)).pixels, np.asarray(palette.convert("RGB")))


def test_16_bit_grey_keeps_its_high_byte():
    grey = CHELSEA[..., 1].astype(np.uint16) * 257
    for data in (encoded(Image.fromarray(grey)), encoded(Image.fromarray(grey), "TIFF")):
        assert np.array_equal(decode_photo(data).pixels, np.repeat(CHELSEA[..., 1:2], 3, axis=2))


def test_16_bit_colour_keeps_its_high_byte():
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in CHELSEA[:40, :60].astype(np.uint16) * 257)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 60, 40, 16, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert np.array_equal(decode_photo(data).pixels, CHELSEA[:40, :60])


def test_transparent_pixels_become_white():
    layer = np.zeros((4, 6, 4), np.uint8)
    layer[:, 3:] = (10, 200, 30, 255)
    photo = decode_photo(encoded(Image.fromarray(layer)))
    assert (photo.pixels[:, :3] == 255).all()
    assert (photo.pixels[:, 3:] == (10, 200, 30)).all()


@pytest.mark.parametrize("mode", ["L", "LA", "1", "RGBA"])
def test_other_modes_become_rgb(chelsea: Image.Image, mode: str):
    photo = decode_photo(encoded(chelsea.convert(mode)))
    assert photo.pixels.shape == (300, 451, 3)
    assert photo.pixels.dtype == np.uint8


def test_an_animation_gives_its_first_frame(chelsea: Image.Image):
    frames = [chelsea.rotate(90 * turn).convert("P") for turn in range(3)]
    photo = decode_photo(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert np.abs(photo.pixels.astype(int) - np.asarray(frames[0].convert("RGB"))).mean() < 1


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1)])
def test_tiny_photos(size: tuple[int, int]):
    photo = decode_photo(encoded(Image.new("RGB", size, (9, 8, 7))))
    assert (photo.width, photo.height) == size
    assert (photo.pixels == (9, 8, 7)).all()


@pytest.mark.parametrize(("format_", "orientation"), [("JPEG", 1), ("PNG", 1), ("JPEG", 6)])
def test_huge_photos_are_reduced_and_know_their_own_size(chelsea: Image.Image, format_: str, orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(chelsea.resize((4510, 3000)), format_, exif=exif.tobytes())
    photo = decode_photo(data)
    sideways = orientation == 6
    assert (photo.width, photo.height) == ((3000, 4510) if sideways else (4510, 3000))
    height, width = photo.pixels.shape[:2]
    assert max(width, height) == LONGEST_SIDE
    assert min(width, height) == pytest.approx(LONGEST_SIDE * 3000 / 4510, abs=1)
    upright = np.rot90(CHELSEA, -1) if sideways else CHELSEA
    small = np.asarray(Image.fromarray(photo.pixels).resize(upright.shape[1::-1]))
    assert np.abs(small.astype(int) - upright).mean() < 4


JPEG = encoded(Image.fromarray(CHELSEA), "JPEG")
BAD = {
    "empty": (b"", "the file is empty"),
    "text": (b"hello, I am not a photo", "not an image of a known format"),
    "html": (b"<!doctype html><title>404</title>", "not an image of a known format"),
    "cut": (JPEG[: len(JPEG) // 2], "image data is truncated or corrupt"),
    "cut in the header": (JPEG[:200], "not an image of a known format|truncated or corrupt"),
    "png without data": (b"\x89PNG\r\n\x1a\n" + b"\x00" * 50, "not an image of a known format|truncated or corrupt"),
    "floats": (encoded(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), "pixels are floating-point numbers"),
    "32 bits": (encoded(Image.fromarray(np.full((4, 4), 70_000, np.int32)), "TIFF"), "grey values of more than 16"),
}


@pytest.mark.parametrize("name", BAD)
def test_corrupt_photos_have_a_reproducible_reason(name: str):
    data, reason = BAD[name]
    messages = set()
    for _ in range(3):
        with pytest.raises(PhotoError, match=reason) as caught:
            decode_photo(data)
        messages.add(str(caught.value))
    assert len(messages) == 1


def test_a_decompression_bomb_is_refused_before_it_unpacks():
    bomb = encoded(Image.new("1", (30_000, 30_000)))  # 900 megapixels in some 100 KB
    assert len(bomb) < 200_000
    with pytest.raises(PhotoError, match="decompression bomb"):
        decode_photo(bomb)


def test_randomly_corrupted_photos_give_pixels_or_a_reason(chelsea: Image.Image):
    draw = np.random.default_rng(0)
    small = chelsea.resize((90, 60))
    originals = [encoded(small, kind) for kind in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP")]
    rejected = 0
    for data in originals:
        for _ in range(100):
            corrupted = bytearray(data)
            for place in draw.integers(0, len(data), size=draw.integers(1, 20)):
                corrupted[place] = draw.integers(256)
            try:
                photo = decode_photo(bytes(corrupted[: draw.integers(1, len(data) + 1)]))
            except PhotoError:
                rejected += 1
            else:
                assert photo.pixels.dtype == np.uint8
                assert photo.pixels.shape[2] == 3
    assert 100 < rejected < 600
