"""Decodes and checks one row of a bottom-up-attention TSV.

Two column orders are in use, distinguished by the number of columns: six (Anderson et al., CVPR 2018), and ten with
class and attribute of every region (LXMERT and its successors).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.features.precomputed.float16 import rejection_reason, to_float16
from pipelines.features.precomputed.tsv_arrays import RowError, confidences, features, floats, ids

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


@dataclass(frozen=True)
class RowFormat:
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
    row_format: RowFormat


def decode_row(line: bytes, row_format: RowFormat | None = None) -> TsvRow:
    """Decodes a row of this format (any if None). Raises RowError with the reason."""
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
        meta["classes"] = ids(row, "objects_id", count)
        meta["confidences"] = confidences(row, "objects_conf", count)
        meta["attributes"] = ids(row, "attrs_id", count)
        meta["attribute_confidences"] = confidences(row, "attrs_conf", count)
    boxes_R4 = floats(row, "boxes", (count, 4), (-_OUTSIDE, max(width_px, height_px) + _OUTSIDE))
    boxes_R4 = _clipped(boxes_R4, (width_px, height_px))
    source_RF = features(row, count, row_format.float_type if row_format else "")
    if row_format and source_RF.shape[1] != row_format.width:
        raise RowError("features do not have the width of the first row")
    return TsvRow(_regions(source_RF), boxes_R4, meta, RowFormat(source_RF.shape[1], source_RF.dtype.str))


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


def _regions(source_RF: NDArray[np.floating]) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):
        regions_RF = to_float16(source_RF.astype(np.float32, copy=False))
    reason = rejection_reason(regions_RF, source_RF)
    if reason:
        raise RowError(reason)
    return regions_RF


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
