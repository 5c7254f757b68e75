"""Tests of decoding: upright RGB pixels, or a reproducible reason for the rejection."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from pipelines.datasets.decode import LONGEST_SIDE, MAX_SCANS, MAX_SEGMENTS, PhotoError, decode_photo
from tests.support import ROOT
from tests.support.image_files import deep_png, encoded, fits, packed12, planes, progressive, sgi, tiff

CHELSEA = skimage.data.chelsea()


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


GREY = CHELSEA[..., 1]
LEVELS = GREY.astype(np.uint16) * 257
"""Grey values of 16 bits whose high byte is GREY."""
GREY_RGB = np.repeat(GREY[..., None], 3, axis=2)


def test_deep_grey_values_keep_their_high_byte():
    images = {
        "PNG": encoded(Image.fromarray(LEVELS)),
        "TIFF": encoded(Image.fromarray(LEVELS), "TIFF"),
        "big-endian TIFF": encoded(Image.fromarray(LEVELS.astype(">u2")), "TIFF"),
        "compressed TIFF": encoded(Image.fromarray(LEVELS), "TIFF", compression="tiff_lzw"),
        "inverted TIFF": tiff((65535 - LEVELS).tobytes(), 16, photometric=0),
        "12-bit TIFF": tiff(packed12(GREY), 12),
        "PGM": encoded(Image.fromarray(LEVELS), "PPM"),
        "lossless JPEG 2000": encoded(Image.fromarray(LEVELS), "JPEG2000"),
    }
    for name, data in images.items():
        assert np.array_equal(decode_photo(data).pixels, GREY_RGB), name


def test_a_pgm_is_scaled_by_its_own_maximum():
    rows = (GREY.astype(np.uint32) * 1000 // 255).astype(">u2")
    photo = decode_photo(b"P5 451 300 1000\n" + rows.tobytes())
    assert np.abs(photo.pixels.astype(int) - GREY_RGB).max() <= 1


def test_a_transparent_grey_value_of_16_bits_becomes_white():
    values = np.array([[5140, 51400], [65535, 0]], np.uint16)
    photo = decode_photo(encoded(Image.fromarray(values), transparency=51400))
    assert photo.pixels[..., 0].tolist() == [[20, 255], [255, 0]]


def with_transparent_pixel(colours: np.ndarray, factor: int) -> np.ndarray:
    """Returns colours of 8 bits, multiplied, with an alpha channel of 16 bits that is 0 for the first pixel."""
    alpha = np.full(colours.shape[:2], 65535, np.uint16)
    alpha[0, 0] = 0
    return np.dstack([colours.astype(np.uint16) * factor, alpha])


def test_16_bit_colour_keeps_its_high_byte():
    for data in (
        deep_png(CHELSEA[:40, :60].astype(np.uint16) * 257),
        sgi(CHELSEA[:40, :60].astype(np.uint16) * 257),
    ):
        assert np.array_equal(decode_photo(data).pixels, CHELSEA[:40, :60])
    pixels = decode_photo(deep_png(with_transparent_pixel(CHELSEA[:40, :60], 257))).pixels
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert np.array_equal(pixels[1:], CHELSEA[1:40, :60])


def test_tiff_planes_of_8_bits_are_read():
    assert np.array_equal(decode_photo(planes(CHELSEA)).pixels, CHELSEA)
    assert np.array_equal(decode_photo(planes(GREY[..., None])).pixels, GREY_RGB)


NO_RANGE = "grey values of more than 8 bits have no defined range"
PLANES = "an uncompressed TIFF with separate planes, which are read correctly with plain 8 bits only"
LOW_BITS = "only the low bits of its 16-bit values are used, so it would be nearly black"
WITHOUT_RANGE = {
    "float of 0 to 1": (encoded(Image.fromarray((GREY / 255).astype(np.float32)), "TIFF"), "pixels are floating-point"),
    "float PFM": (encoded(Image.fromarray(GREY.astype(np.float32)), "PPM"), "pixels are floating-point numbers"),
    "32-bit values of 0 to 255": (encoded(Image.fromarray(GREY.astype(np.int32)), "TIFF"), NO_RANGE),
    "32-bit values of 0 to 65535": (encoded(Image.fromarray(LEVELS.astype(np.int32)), "TIFF"), NO_RANGE),
    "32-bit values without sign": (tiff((LEVELS.astype(np.uint32) << 16).tobytes(), 32), NO_RANGE),
    "signed 16 bits": (tiff(LEVELS.tobytes(), 16, sample_format=2), NO_RANGE),
    "FITS": (fits(LEVELS), NO_RANGE),
    "12 bits in a PNG of 16": (encoded(Image.fromarray(LEVELS >> 4)), LOW_BITS),
    "8 bits in a TIFF of 16": (encoded(Image.fromarray(LEVELS >> 8), "TIFF"), LOW_BITS),
    "12 bits in a PGM of 16": (encoded(Image.fromarray(LEVELS >> 4), "PPM"), LOW_BITS),
    "12 bits in a PPM of 16": (
        b"P6 451 300 65535\n" + (CHELSEA.astype(np.uint16) * 16).astype(">u2").tobytes(),
        LOW_BITS,
    ),
    "12 bits in colours of 16": (deep_png(CHELSEA[:40, :60].astype(np.uint16) * 16), LOW_BITS),
    "12 bits and a transparent pixel": (deep_png(with_transparent_pixel(CHELSEA[:40, :60], 16)), LOW_BITS),
    "colour planes of 16 bits": (planes(CHELSEA.astype(np.uint16) * 257), PLANES),
    "an inverted grey plane": (planes(GREY[..., None], t262=0), PLANES),
    "a plane of reversed bits": (planes(GREY[..., None], t266=2), PLANES),
    "12 bits in an SGI of 16": (sgi(CHELSEA[:40, :60].astype(np.uint16) * 16), LOW_BITS),
}


@pytest.mark.parametrize("name", WITHOUT_RANGE)
def test_values_without_a_defined_range_are_rejected(name: str):
    """Pillow clips them, or they come out nearly black."""
    data, reason = WITHOUT_RANGE[name]
    with pytest.raises(PhotoError, match=reason):
        decode_photo(data)


def test_transparent_pixels_become_white():
    layer = np.zeros((4, 6, 4), np.uint8)
    layer[:, 3:] = (10, 200, 30, 255)
    photo = decode_photo(encoded(Image.fromarray(layer)))
    assert (photo.pixels[:, :3] == 255).all()
    assert (photo.pixels[:, 3:] == (10, 200, 30)).all()


MODES = {
    "1": ["PNG", "TIFF", "PPM", "BMP"],
    "L": ["PNG", "TIFF", "JPEG2000", "WEBP"],
    "LA": ["PNG", "TIFF", "JPEG2000", "TGA"],
    "P": ["PNG", "TIFF", "BMP", "GIF"],
    "PA": ["TIFF"],
    "RGB": ["PNG", "TIFF", "JPEG2000", "BMP", "SGI", "DDS"],
    "RGBA": ["PNG", "TIFF", "JPEG2000", "TGA"],
    "RGBX": ["TIFF"],
    "CMYK": ["TIFF", "JPEG2000"],
    "YCbCr": ["TIFF"],
    "LAB": ["TIFF"],
}
TOLERANCE = {"1": 0, "LAB": 3, "YCbCr": 3}
"""Largest mean difference of a mode whose conversion rounds; the others are exact for each pixel."""


@pytest.mark.parametrize(("mode", "format_"), [(mode, each) for mode, formats in MODES.items() for each in formats])
def test_every_mode_becomes_rgb(chelsea: Image.Image, mode: str, format_: str):
    lossless = {"lossless": True} if format_ == "WEBP" else {}
    image = chelsea.convert("P").convert("PA") if mode == "PA" else chelsea.convert(mode)
    expected = chelsea if mode in TOLERANCE and mode != "1" else image.convert("RGB")
    pixels = decode_photo(encoded(image, format_, **lossless)).pixels
    assert np.abs(pixels.astype(int) - np.asarray(expected)).mean() <= TOLERANCE.get(mode, 0)


def test_eps_is_not_decoded(chelsea: Image.Image):
    """Pillow would run the Ghostscript of the machine."""
    with pytest.raises(PhotoError, match="not an image of a known format"):
        decode_photo(encoded(chelsea, "EPS"))


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_tiff_is_rotated_once(chelsea: Image.Image, orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = decode_photo(encoded(chelsea, "TIFF", exif=exif.tobytes()))
    assert np.array_equal(photo.pixels, CHELSEA if orientation == 1 else np.rot90(CHELSEA, -1))
    assert photo.pixels.shape[:2] == (photo.height, photo.width)


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


def test_a_jpeg_of_many_scans_is_refused_before_decoding():
    """The files lack their end, which would be the reason if they were decoded."""
    commented = {
        comments: JPEG.replace(b"\xff\xdb", b"\xff\xfe\x00\x02" * comments + b"\xff\xdb", 1)
        for comments in (MAX_SEGMENTS - 100, MAX_SEGMENTS)
    }
    assert decode_photo(progressive(64, MAX_SCANS)).width == 64
    for jpeg in (progressive(64, MAX_SCANS), commented[MAX_SEGMENTS - 100]):
        with pytest.raises(PhotoError, match="truncated or corrupt"):
            decode_photo(jpeg[:-2])
    for jpeg in (progressive(64, MAX_SCANS + 1), progressive(5500, MAX_SCANS), commented[MAX_SEGMENTS]):
        with pytest.raises(PhotoError, match="too many scans or segments of a JPEG"):
            decode_photo(jpeg[:-2])


def test_only_scans_of_the_photo_itself_are_counted():
    jpeg = encoded(Image.fromarray(CHELSEA), "JPEG", progressive=True)
    expected = decode_photo(jpeg).pixels
    many = progressive(16, 1000)
    commented = encoded(Image.fromarray(CHELSEA), "JPEG", progressive=True, comment=many)
    for other in (commented, jpeg + many):  # a thumbnail in a segment; a second image, as in MPO
        assert np.array_equal(decode_photo(other).pixels, expected)


def test_too_many_pixels_are_refused_before_decoding():
    with pytest.raises(PhotoError, match="more than 100 megapixels"):
        decode_photo(encoded(Image.new("1", (10_001, 10_000))))
    with pytest.raises(PhotoError, match="more than 100 megapixels"):  # a tile may be larger than its image
        decode_photo(planes(GREY[..., None], t322=10_001, t323=10_000))
    assert decode_photo(encoded(Image.new("L", (12_000, 9_000)), "JPEG")).width == 12_000  # it decodes at a fraction


@pytest.mark.parametrize(
    ("mode", "format_", "most"), [("LA", "PNG", 13), ("I;16", "PNG", 13), ("RGBA", "JPEG2000", 25)]
)
def test_the_memory_of_one_image_is_bounded(mode: str, format_: str, most: int, tmp_path: Path):
    """In bytes per pixel, with a rotation, in a process of its own: the peak of a process never falls."""
    side = 3000
    image = Image.new(mode, (side, side)) if mode != "I;16" else Image.fromarray(np.full((side, side), 9999, np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "image"
    path.write_bytes(encoded(image, format_, exif=exif.tobytes()) if format_ == "PNG" else encoded(image, format_))
    code = f"""
import resource
from pathlib import Path
from pipelines.datasets.decode import decode_photo
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
decode_photo(Path("{ROOT}/docs/scenes.jpg").read_bytes())
before = peak()
decode_photo(Path("{path}").read_bytes())
print((peak() - before) / {side}**2)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(done.stdout) < most


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
