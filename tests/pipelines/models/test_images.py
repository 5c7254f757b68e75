"""Images in every form that a registered model accepts are decoded as the extraction decodes files."""

import asyncio
import base64
import io
import tempfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from uuid import uuid4

import numpy as np
import pytest
from PIL import Image

from infra.errors import StorageError
from pipelines.datasets.decode import LONGEST_SIDE, DecodedPhoto, PhotoError, decode_photo
from pipelines.datasets.http_download import SILENT_PHOTOS, SilentServers
from pipelines.models import images as images_module
from pipelines.models.images import _BASE64, image_error, image_key, read_image
from tests.support.bad_stores import UNREADABLE, no_s3_server
from tests.support.web_server import drips, web_server


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", exif=image.getexif())
    return buffer.getvalue()


def images() -> dict[str, Image.Image]:
    rng = np.random.default_rng(0)
    turned = Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8))
    turned.getexif()[0x0112] = 6
    return {
        "turned": turned,
        "large": Image.fromarray(rng.integers(0, 256, (100, LONGEST_SIDE * 2, 3), dtype=np.uint8)),
        "grey, 16 bits": Image.fromarray(rng.integers(0, 65536, (9, 11), dtype=np.uint16)),
        "transparent": Image.fromarray(rng.integers(0, 256, (9, 11, 4), dtype=np.uint8)),
    }


@pytest.mark.parametrize("kind", ["turned", "large", "grey, 16 bits", "transparent"])
def test_every_form_gives_the_pixels_of_the_extraction(kind: str, tmp_path: Path):
    image = images()[kind]
    data = png(image)
    (tmp_path / "photo.png").write_bytes(data)
    text = base64.b64encode(data).decode()
    expected = decode_photo(data)
    path = str(tmp_path / "photo.png")
    uris = [path, tmp_path / "photo.png", f"file://{path}", f"data:image/png;base64,{text}"]
    forms = [data, bytearray(data), memoryview(data), text, *uris, Image.open(io.BytesIO(data))]
    for form in forms:
        assert image_error(form) == ""
        found = read_image(form)
        assert (found.width, found.height) == (expected.width, expected.height)
        np.testing.assert_array_equal(found.pixels, expected.pixels)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])  # a JPEG is reduced while it is decoded
def test_an_image_of_60_megapixels_is_read(kind: str):
    file = io.BytesIO()
    Image.new("RGB", (10_000, 6_000), (200, 30, 30)).save(file, kind)
    found = read_image(file.getvalue())
    assert (found.width, found.height) == (10_000, 6_000)
    assert max(found.pixels.shape) <= LONGEST_SIDE
    assert np.abs(found.pixels.reshape(-1, 3).mean(axis=0) - (200, 30, 30)).max() < 3


def test_a_large_jpeg_opened_by_pil_is_the_file(tmp_path: Path):
    """A JPEG is reduced while it is decoded, a loaded image afterwards."""
    size = (2 * LONGEST_SIDE + 30, 2 * LONGEST_SIDE)
    noise = np.random.default_rng(0).integers(0, 256, (300, 500, 3), dtype=np.uint8)
    path = tmp_path / "photo.jpg"
    Image.fromarray(noise).resize(size).save(path)
    expected = decode_photo(path.read_bytes())
    with Image.open(path) as image:
        position = image.fp.tell()
        found = read_image(image)
        assert (image.fp.tell(), image.size) == (position, size)
        assert (found.width, found.height) == image.size
        np.testing.assert_array_equal(found.pixels, expected.pixels)
        assert image_key(image) == image_key(path.read_bytes())
        image.load()
        assert not np.array_equal(read_image(image).pixels, expected.pixels)


def test_closed_pil_images_are_an_error(tmp_path: Path):
    path = tmp_path / "photo.png"
    path.write_bytes(png(images()["turned"]))
    with Image.open(path) as left:
        pass
    loaded = Image.open(path).copy()
    assert image_error(loaded) == ""
    loaded.close()
    opened = Image.open(path)
    opened.close()
    for image in (opened, left, loaded):
        assert "is a closed PIL image; give one whose file is open, or its path" in image_error(image)


def test_keys_of_pil_images_depend_on_what_decoding_uses():
    pixels = np.random.default_rng(0).integers(0, 4, (4, 6), dtype=np.uint8)
    plain, turned, palette, other_palette = (Image.fromarray(pixels) for _ in range(4))
    turned.getexif()[0x0112] = 6
    palette.putpalette([0, 0, 0, 255, 0, 0])
    other_palette.putpalette([0, 0, 0, 0, 255, 0])
    different = [plain, turned, palette, other_palette, plain.convert("RGB"), plain.transpose(2)]
    assert len({image_key(image) for image in different}) == len(different)
    assert image_key(plain) == image_key(Image.fromarray(pixels))


def test_web_image_is_downloaded_within_an_event_loop(tmp_path: Path):
    data = png(images()["turned"])
    (tmp_path / "photo.png").write_bytes(data)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(tmp_path)))
    Thread(target=server.serve_forever, daemon=True).start()

    async def in_a_notebook() -> DecodedPhoto:
        return read_image(f"http://127.0.0.1:{server.server_port}/photo.png")

    try:
        found = asyncio.run(in_a_notebook())
    finally:
        server.shutdown()
    np.testing.assert_array_equal(found.pixels, decode_photo(data).pixels)


def test_rgb_arrays_are_downscaled_like_files():
    small = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    np.testing.assert_array_equal(read_image(small).pixels, small)
    image = images()["large"]
    np.testing.assert_array_equal(read_image(np.asarray(image)).pixels, decode_photo(png(image)).pixels)


@pytest.mark.parametrize("kind", ["turned", "large", "transparent"])
def test_a_pil_image_is_not_changed(kind: str):
    image = images()[kind]
    before = np.array(image)
    read_image(image)
    np.testing.assert_array_equal(np.asarray(image), before)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("nowhere/photo.jpg", "nowhere/photo.jpg: cannot be read: No such file"),
        (b"some text", "not an image of a known format"),
        (b"", "the file is empty"),
        ("ftp://host/photo.jpg", "ftp:// is not supported"),
        ("~nobody-at-all/photo.jpg", "has no home folder"),
        ("QUJD" * 30, "not an image of a known format"),
        ("data:image/png;base64,A", "invalid base64 text"),
    ],
)
def test_what_cannot_be_decoded_has_a_reason(value, said: str):
    with pytest.raises(PhotoError, match=said):
        read_image(value)
    with pytest.raises(PhotoError, match="truncated or corrupt"):
        read_image(png(images()["turned"])[:-200])


def test_an_error_names_the_file(tmp_path: Path):
    (tmp_path / "a.jpg").write_bytes(b"some text")
    with pytest.raises(PhotoError, match=r"/a\.jpg: not an image of a known format"):
        read_image(tmp_path / "a.jpg")


def test_an_error_contains_no_password():
    with pytest.raises(PhotoError, match=r"^ftp://host/a\.jpg\?sig=\*\*\*: cannot be read: photo ftp://host/a\.jpg"):
        read_image("ftp://me:hunter2@host/a.jpg?sig=hunter2")


def test_base64_for_urls_is_read():
    data = png(Image.fromarray(np.random.default_rng(1).integers(0, 256, (30, 30, 3), dtype=np.uint8)))
    text = base64.urlsafe_b64encode(data).decode()
    assert {"-", "_"} < set(text)
    np.testing.assert_array_equal(read_image(text).pixels, read_image(data).pixels)


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_the_smallest_files_are_read_as_base64(kind: str):
    file = io.BytesIO()
    Image.new("RGB", (1, 1), (200, 10, 10)).save(file, kind, lossless=True)
    text = base64.b64encode(file.getvalue()).decode()
    assert len(text) < 64
    np.testing.assert_array_equal(read_image(text).pixels, read_image(file.getvalue()).pixels)


@pytest.mark.parametrize("form", [str, Path])
def test_a_path_of_base64_characters_is_read(form: type, monkeypatch: pytest.MonkeyPatch):
    data = png(Image.new("RGB", (9, 7), (200, 10, 10)))
    path = Path(tempfile.gettempdir()) / f"{uuid4().hex}{uuid4().hex}"  # as content-addressed files are named
    assert _BASE64.fullmatch(str(path))
    assert image_key(path) != image_key(str(path))  # as text it may be base64
    try:
        path.write_bytes(data)
        np.testing.assert_array_equal(read_image(form(path)).pixels, read_image(data).pixels)
        monkeypatch.chdir(path.parent)
        np.testing.assert_array_equal(read_image(form(path.name)).pixels, read_image(data).pixels)
    finally:
        path.unlink(missing_ok=True)


def test_the_time_for_text_grows_with_its_length():
    """A text of spaces and one other character took 9 s; ten times as many would take 15 minutes."""
    with pytest.raises(PhotoError, match="cannot be read"):
        read_image(" " * 320_000 + "!")


def test_a_store_that_fails_is_not_the_fault_of_an_image():
    """With `on_error` null, an expired token made every image of a batch null."""
    with no_s3_server(), pytest.raises(StorageError, match=r"^s3://bucket/photos: no S3 server responds"):
        read_image("s3://bucket/photos/a.jpg")


@pytest.mark.skipif(not UNREADABLE.exists(), reason="needs /proc")
def test_a_disk_that_fails_is_not_the_fault_of_an_image(tmp_path: Path):
    (tmp_path / "a.jpg").symlink_to(UNREADABLE)
    with pytest.raises(StorageError, match="cannot be accessed"):
        read_image(str(tmp_path / "a.jpg"))


def test_unresponsive_web_server_is_abandoned_soon(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(images_module, "DOWNLOAD_S", 3.0)
    with web_server(drips(b"", b"", 0.05)) as (uri, connections):
        with pytest.raises(PhotoError, match=rf"{uri}: no response from the web server within 1 s"):
            read_image(uri)
        assert len(connections) == 2


def test_a_silent_web_server_is_given_up_for_further_images(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(images_module, "DOWNLOAD_S", 0.6)
    with web_server(drips(b"", b"", 0.05)) as (uri, connections):
        servers, reasons = SilentServers(), []
        for number in range(20):
            with pytest.raises(PhotoError) as caught:
                read_image(f"{uri}?{number}", servers)
            reasons.append(str(caught.value))
        assert SILENT_PHOTOS <= len(connections) <= 2 * SILENT_PHOTOS
    assert reasons[SILENT_PHOTOS].startswith(f"{uri}?3: not downloaded: {uri.split('/')[2]} gave no response for 3")
