"""Image files of kinds that Pillow cannot write, or writes with other contents."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def encoded(image: Image.Image, format_: str = "PNG", **options: object) -> bytes:
    """Returns an image as Pillow writes it."""
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def tiff(samples: bytes, bits: int, photometric: int = 1, sample_format: int = 1) -> bytes:
    """Returns a little-endian TIFF of one strip of grey values, 300 x 451."""
    tags = [(256, 451), (257, 300), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1), (278, 300)]
    tags += [(279, len(samples)), (339, sample_format)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(samples)) + samples + struct.pack("<H", len(tags)) + entries + bytes(4)


def planes(samples: np.ndarray, **values: int) -> bytes:
    """Returns a little-endian uncompressed TIFF with a block for each channel of h x w x c samples, and other tags."""
    height, width, count = samples.shape
    bits = samples.itemsize * 8
    channels = [np.ascontiguousarray(samples[..., channel]).tobytes() for channel in range(count)]
    tags = {256: [width], 257: [height], 258: [bits] * count, 259: [1], 262: [2 if count == 3 else 1], 266: [1]}
    tags |= {273: [8 + sum(map(len, channels[:channel])) for channel in range(count)], 277: [count], 278: [height]}
    tags |= {279: [len(each) for each in channels], 284: [2]} | {int(tag[1:]): [value] for tag, value in values.items()}
    data, entries = b"".join(channels), b""
    for tag, numbers in sorted(tags.items()):
        packed = struct.pack(f"<{len(numbers)}I", *numbers)
        entries += struct.pack("<HHI", tag, 4, len(numbers))
        entries += packed if len(numbers) == 1 else struct.pack("<I", 8 + len(data))
        data += packed if len(numbers) > 1 else b""
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4)


def packed12(values: np.ndarray) -> bytes:
    """Returns 12-bit values, two in three bytes; each row begins with a byte of its own."""
    rows = np.pad(values.astype(np.uint16) << 4, ((0, 0), (0, values.shape[1] % 2)))
    pairs = rows.reshape(len(rows), -1, 2)
    first, second = pairs[..., 0], pairs[..., 1]
    packed = np.stack([first >> 4, ((first & 15) << 4) | (second >> 8), second & 255], axis=-1)
    return packed.astype(np.uint8).reshape(len(rows), -1)[:, : -(-values.shape[1] * 12 // 8)].tobytes()


def deep_png(values: np.ndarray) -> bytes:
    """Returns a PNG of 16-bit colours, which Pillow cannot write."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    kind = {3: 2, 4: 6}[values.shape[2]]  # RGB, RGBA
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def sgi(values: np.ndarray) -> bytes:
    """Returns an uncompressed SGI image of 16 bits, which Pillow cannot write."""
    header = struct.pack(">hBBHHHHII", 474, 0, 2, 3, values.shape[1], values.shape[0], 3, 0, 65535)
    return header.ljust(512, b"\0") + values[::-1].transpose(2, 0, 1).astype(">u2").tobytes()


def fits(values: np.ndarray) -> bytes:
    """Returns a FITS file of 16-bit grey values."""
    cards = ["SIMPLE  =                    T", "BITPIX  =                   16", "NAXIS   =                    2"]
    cards += [f"NAXIS1  = {values.shape[1]:20}", f"NAXIS2  = {values.shape[0]:20}", "END"]
    return "".join(f"{card:80}" for card in cards).ljust(2880).encode() + values.astype(">u2").tobytes()


def progressive(side: int, scans: int) -> bytes:
    """Returns a grey JPEG that repeats its last scan, so that it has as many as given."""
    jpeg = encoded(Image.new("L", (side, side), 128), "JPEG", progressive=True)
    last = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    return jpeg[:-2] + last * (scans - jpeg.count(b"\xff\xda")) + jpeg[-2:]
