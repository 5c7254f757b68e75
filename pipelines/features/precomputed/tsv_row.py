"""Decodes and checks one row of a bottom-up-attention TSV.

Two column orders are in use, distinguished by the number of columns: six (Anderson et al., CVPR 2018), and ten with
class and attribute of every region (LXMERT and its successors). Arrays are base64 of little-endian float32 (or
float64), ids of int64.
"""

import binascii
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.features.precomputed.float16 import FLOAT16_MAX, rejection_reason, to_float16

ORDERS = {
    6: ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features"),
    10: (
        *("img_id", "img_h", "img_w", "objects_id", "objects_conf", "attrs_id", "attrs_conf"),
        *("num_boxes", "boxes", "features"),
    ),
}
"""Column names by the number of columns."""
_ENOUGH = 500
"""So many random 16-bit patterns are all finite as float16 once in eight million rows."""
_OUTSIDE = 1.0
"""Pixels by which a box may exceed the photo: the original files clip boxes in a scaled photo of rounded size."""


class RowError(Exception):
    """A row cannot be used. The message is the rejection reason, the same for all rows with the same defect."""


@dataclass(frozen=True)
class RowLayout:
    """What the rows of a source have in common. The first valid row determines it."""

    width: int
    """Feature width."""
    float_type: str
    """NumPy's name of the type of the features: `<f4` as in the original files, or `<f8`."""


@dataclass(frozen=True)
class TsvRow:
    """Content of a row."""

    regions_RF: NDArray[np.float16]
    boxes_R4: NDArray[np.float32]
    """x0 y0 x1 y1 in pixels of the photo."""
    meta: dict[str, Any]
    """Width and height of the photo, classes and confidences (empty in the six-column order), attributes."""
    layout: RowLayout


def decode_row(line: bytes, layout: RowLayout | None = None) -> TsvRow:
    """Decodes a row of this layout (any if None). Raises RowError with the reason."""
    values = _columns(line)
    names = ORDERS.get(len(values))
    if names is None:
        raise RowError("the row has neither 6 nor 10 columns")
    row = dict(zip((name.replace("image_", "img_") for name in names), values, strict=True))
    try:
        width_px, height_px, count = (int(bytes(row[name])) for name in ("img_w", "img_h", "num_boxes"))
    except ValueError as error:
        raise RowError("size or num_boxes is not an integer") from error
    if min(width_px, height_px, count) < 1:
        raise RowError("size or num_boxes is not positive")
    meta: dict[str, Any] = {"width": width_px, "height": height_px, "classes": [], "confidences": []}
    if "objects_id" in row:
        meta["classes"] = _ids(row, "objects_id", count)
        meta["confidences"] = _confidences(row, "objects_conf", count)
        meta["attributes"] = _ids(row, "attrs_id", count)
        meta["attribute_confidences"] = _confidences(row, "attrs_conf", count)
    boxes_R4 = _floats(row, "boxes", (count, 4), (-_OUTSIDE, max(width_px, height_px) + _OUTSIDE))
    boxes_R4 = _clipped(boxes_R4, (width_px, height_px))
    source_RF = _features(row, count, layout)
    return TsvRow(_regions(source_RF), boxes_R4, meta, RowLayout(source_RF.shape[1], source_RF.dtype.str))


def _columns(line: bytes) -> list[memoryview]:
    """Returns the columns of a line as views, because copying half a megabyte per row is noticeable.

    Text that Python 3 wrote for bytes loses its `b'` and `'`.
    """
    view, values, start = memoryview(line), [], 0
    while (end := line.find(b"\t", start)) >= 0:
        values.append(view[start:end])
        start = end + 1
    end = len(line)
    while end > start and line[end - 1] in b"\r\n":
        end -= 1
    values.append(view[start:end])
    return [value[2:-1] if (bytes(value[:2]), bytes(value[-1:])) == (b"b'", b"'") else value for value in values]


def _features(row: dict[str, memoryview], count: int, layout: RowLayout | None) -> NDArray[np.floating]:
    source_RF = _array(row, "features", layout.float_type if layout else "<f4", count)
    if layout is None and _is_float64(source_RF):
        source_RF = source_RF.view("<f8")
    elif layout is None and _is_float16(source_RF):
        raise RowError("features are float16; write them as float32")
    if layout and source_RF.shape[1] != layout.width:
        raise RowError("features do not have the width of the first row")
    return source_RF


def _regions(source_RF: NDArray[np.floating]) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):
        regions_RF = to_float16(source_RF.astype(np.float32, copy=False))
    reason = rejection_reason(regions_RF, source_RF)
    if reason:
        raise RowError(reason)
    return regions_RF


def _is_float64(values: NDArray[np.float32]) -> bool:
    """Returns whether every two values are the bits of one float64 value.

    The upper 32 bits, read as float32, are ordinary numbers. The lower ones are bits of the fraction: of those that are
    not zero, more than a quarter are beyond float16, even if the source was float32. If it was float16, all are zero.
    """
    if values.shape[1] % 2:
        return False
    lower, upper = np.abs(values[:, ::2]), np.abs(values[:, 1::2])
    with np.errstate(invalid="ignore"):
        if not upper.any() or not (upper <= FLOAT16_MAX).all():
            return False
        beyond = lower.size - np.count_nonzero(lower <= FLOAT16_MAX)  # a NaN counts
    return bool(not lower.any() or beyond > 0.1 * np.count_nonzero(lower))


def _is_float16(values: NDArray[np.float32]) -> bool:
    """Returns whether every value holds the bits of two float16 values.

    Of the lower 16 bits of float32 values, 3 % are infinite or NaN as float16. If the source had been float16, the
    lower 13 bits would be zero. A row with fewer than _ENOUGH other values is taken as float32.
    """
    lower = values.view("<u2")[:, ::2]
    nonzero = lower[(lower & 0x1FFF) != 0]
    return bool(nonzero.size >= _ENOUGH and np.isfinite(nonzero.view("<f2")).all())


def _array(row: dict[str, memoryview], name: str, dtype: str, count: int) -> NDArray[Any]:
    """Decodes a base64 column into `count` rows of at least one value."""
    try:
        data = bytearray(binascii.a2b_base64(row[name], strict_mode=True))
    except ValueError as error:
        raise RowError(f"{name} are not valid base64") from error
    if not data or len(data) % (count * np.dtype(dtype).itemsize):
        raise RowError(f"{name} do not fit num_boxes")
    return np.frombuffer(data, dtype).reshape(count, -1)


def _ids(row: dict[str, memoryview], name: str, count: int) -> list[int]:
    values = _array(row, name, "<i8", count)
    if values.shape[1] != 1:
        raise RowError(f"{name} do not fit num_boxes")
    return values[:, 0].tolist()


def _floats(
    row: dict[str, memoryview], name: str, shape: tuple[int, int], limits: tuple[float, float]
) -> NDArray[np.float32]:
    """Returns a column of float32, or of float64 within the limits."""
    values = _array(row, name, "<f4", shape[0])
    if values.shape == shape:
        return values
    if values.shape[1] == 2 * shape[1]:
        wide = values.view("<f8")
        if ((wide >= limits[0]) & (wide <= limits[1])).all():
            return wide.astype(np.float32)
    raise RowError(f"{name} do not fit num_boxes")


def _confidences(row: dict[str, memoryview], name: str, count: int) -> list[float]:
    """Returns confidences rounded to four digits, as an extraction stores them."""
    values = _floats(row, name, (count, 1), (0, 1))
    if not ((values >= -1e-3) & (values <= 1 + 1e-3)).all():  # a NaN is neither
        raise RowError(f"{name} are outside 0 to 1")
    return [round(value, 4) for value in values[:, 0].clip(0, 1).tolist()]


def _clipped(boxes_R4: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Returns boxes clipped to the photo."""
    if not np.isfinite(boxes_R4).all():
        raise RowError("boxes are not finite")
    edge = np.array(size * 2, np.float32)
    if (boxes_R4 < -_OUTSIDE).any() or (boxes_R4 > edge + _OUTSIDE).any():
        raise RowError("boxes reach outside the photo")
    clipped_R4 = boxes_R4.clip(0, edge)
    if (clipped_R4[:, 2:] <= clipped_R4[:, :2]).any():
        raise RowError("boxes without area")
    return clipped_R4
