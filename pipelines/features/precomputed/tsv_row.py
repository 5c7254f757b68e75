"""Decodes and checks one row of a bottom-up-attention TSV.

Two column orders are in use, distinguished by the number of columns: six (Anderson et al., CVPR 2018), and ten with
class and attribute of every region (LXMERT and its successors). Arrays are base64 of little-endian float32, ids of
int64.
"""

import binascii
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.features.precomputed.float16 import rejection_reason, to_float16

ORDERS = {
    6: ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features"),
    10: (
        *("img_id", "img_h", "img_w", "objects_id", "objects_conf", "attrs_id", "attrs_conf"),
        *("num_boxes", "boxes", "features"),
    ),
}
"""Column names by the number of columns."""
_OUTSIDE = 1.0
"""Pixels by which a box may exceed the photo: the original files clip boxes in a scaled photo of rounded size."""


class RowError(Exception):
    """A row cannot be used. The message is the rejection reason, the same for all rows with the same defect."""


@dataclass(frozen=True)
class TsvRow:
    """Content of a row."""

    regions_RF: NDArray[np.float16]
    boxes_R4: NDArray[np.float32]
    """x0 y0 x1 y1 in pixels of the photo."""
    meta: dict[str, Any]
    """Width and height of the photo, classes and confidences (empty in the six-column order), attributes."""


def decode_row(line: bytes, width: int | None = None) -> TsvRow:
    """Decodes a row whose regions have `width` features (any number if None). Raises RowError with the reason."""
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
        meta["classes"] = _column(row, "objects_id", "<i8", count).tolist()
        meta["confidences"] = _confidences(row, "objects_conf", count)
        meta["attributes"] = _column(row, "attrs_id", "<i8", count).tolist()
        meta["attribute_confidences"] = _confidences(row, "attrs_conf", count)
    boxes_R4 = _boxes(_array(row, "boxes", "<f4", count), (width_px, height_px))
    source_RF = _array(row, "features", "<f4", count)
    if source_RF.shape[1] != (width or source_RF.shape[1]):
        raise RowError("features do not have the width of the first row")
    regions_RF = to_float16(source_RF)
    reason = rejection_reason(regions_RF, source_RF)
    if reason:
        raise RowError(reason)
    return TsvRow(regions_RF, boxes_R4, meta)


def _columns(line: bytes) -> list[memoryview]:
    """Returns the columns of a line as views, because copying half a megabyte per row is noticeable."""
    view, values, start = memoryview(line), [], 0
    while (end := line.find(b"\t", start)) >= 0:
        values.append(view[start:end])
        start = end + 1
    end = len(line)
    while end > start and line[end - 1] in b"\r\n":
        end -= 1
    return [*values, view[start:end]]


def _array(row: dict[str, memoryview], name: str, dtype: str, count: int) -> NDArray[Any]:
    """Decodes a base64 column into `count` rows of at least one value."""
    try:
        data = bytearray(binascii.a2b_base64(row[name], strict_mode=True))
    except ValueError as error:
        raise RowError(f"{name} are not valid base64") from error
    if not data or len(data) % (count * np.dtype(dtype).itemsize):
        raise RowError(f"{name} do not fit num_boxes")
    return np.frombuffer(data, dtype).reshape(count, -1)


def _column(row: dict[str, memoryview], name: str, dtype: str, count: int) -> NDArray[Any]:
    values = _array(row, name, dtype, count)
    if values.shape[1] != 1:
        raise RowError(f"{name} do not fit num_boxes")
    return values[:, 0]


def _confidences(row: dict[str, memoryview], name: str, count: int) -> list[float]:
    """Returns confidences rounded to four digits, as an extraction stores them."""
    values = _column(row, name, "<f4", count)
    if not ((values >= -1e-3) & (values <= 1 + 1e-3)).all():  # a NaN is neither
        raise RowError(f"{name} are outside 0 to 1")
    return [round(value, 4) for value in values.clip(0, 1).tolist()]


def _boxes(boxes_R4: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Returns boxes clipped to the photo."""
    if boxes_R4.shape[1] != 4:
        raise RowError("boxes do not fit num_boxes")
    if not np.isfinite(boxes_R4).all():
        raise RowError("boxes are not finite")
    edge = np.array(size * 2, np.float32)
    if (boxes_R4 < -_OUTSIDE).any() or (boxes_R4 > edge + _OUTSIDE).any():
        raise RowError("boxes reach outside the photo")
    clipped_R4 = boxes_R4.clip(0, edge)
    if (clipped_R4[:, 2:] <= clipped_R4[:, :2]).any():
        raise RowError("boxes without area")
    return clipped_R4
