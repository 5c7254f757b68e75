"""The rows that a registered model is given: validated, with each distinct image and caption once."""

import hashlib
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from infra.errors import UserError
from pipelines.features.npy import load_npy
from pipelines.models.detection import PhotoRegions
from pipelines.models.images import from_base64, image_error, image_key
from shan_model.vocabulary import has_word

_MAX_FEATURE = float(np.finfo(np.float16).max)
"""Feature sets store features as float16; the extraction rejects larger ones."""
_MAX_CAPTION_CHARS = 10_000
"""A GRU reads words one after the other: a caption of 20,000 words takes half a minute on a CPU."""
_MAX_REGIONS = 10_000
"""The memory of a score grows with the square of this number: 0.4 GB. Detectors find 10 to 100 regions."""
COLUMNS = ("image", "regions", "boxes", "caption")
_NO_RESULT = "; params={'on_error': 'null'} returns null for such rows"


class _CellError(Exception):
    """Why a cell cannot be used: its column and the reason."""

    def __init__(self, column: str, reason: str) -> None:
        super().__init__(reason)
        self.column = column


@dataclass
class Request:
    """Distinct images and captions, and which of them each row has."""

    raises: bool
    """Whether an image or caption that cannot be used raises UserError. Otherwise it is recorded in `problems`."""
    images: list[Any] = field(default_factory=list)
    """PhotoRegions where a row gives regions, else what `images.decode` takes."""
    captions: list[str] = field(default_factory=list)
    image_of_row: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """Position in `images`; -1 for a row without an image or with one that cannot be used."""
    caption_of_row: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """Position in `captions`; -1 for a row without a caption or with one that cannot be used."""
    problems: dict[int, str] = field(default_factory=dict)
    """Why the image or the caption of a row cannot be used, by row; the first reason of each."""

    def fail(self, row: int, column: str, reason: str) -> None:
        """Raises UserError for an image or caption that cannot be used, or records it."""
        problem = f"row {row}, column {column}: {reason}"
        if self.raises:
            raise UserError(problem + _NO_RESULT)
        self.problems.setdefault(row, problem)

    def first_row(self, image: int) -> int:
        """Returns the first row of an image."""
        return int(np.argmax(self.image_of_row == image))

    def fail_image(self, image: int, reason: str) -> None:
        """Does the same as `fail` for every row of an image."""
        for row in np.flatnonzero(self.image_of_row == image).tolist():
            self.fail(row, "image", reason)

    def rows_of(self, images: list[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns the rows of some images, and for each of these rows the position of its image in the list."""
        position = np.full(len(self.images) + 1, -1)  # the last one is that of a row without an image
        position[images] = np.arange(len(images))
        rows = np.flatnonzero(position[self.image_of_row] >= 0)
        return rows, position[self.image_of_row[rows]]


def read_request(frame: pd.DataFrame, feature_dim: int, *, pairs: bool, raises: bool) -> Request:
    """Reads and checks all rows, before any image is decoded and any score computed.

    With `pairs`, each row needs an image (or regions) and a caption, otherwise at least one of them, and an image is
    used although its caption cannot be, and vice versa. Raises UserError if a column or all are missing, and for a row
    as `Request.fail`.
    """
    if twice := [name for name in COLUMNS if list(frame.columns).count(name) > 1]:
        raise UserError(f"the input has column {twice[0]} twice; give it once")
    if not set(COLUMNS) & set(frame):  # MLflow drops columns of other names, rows and all, with a warning only
        raise UserError("the input has no column image, regions or caption; name its columns so, in lower case")
    columns = {name: frame[name].tolist() if name in frame else [None] * len(frame) for name in COLUMNS}
    request, seen = Request(raises), _Seen()
    if pairs and len(frame) and ("caption" not in frame or not {"image", "regions"} & set(frame)):
        raise UserError("the input needs column caption, and column image or regions")
    images, captions = np.full(len(frame), -1), np.full(len(frame), -1)
    for row, cells in enumerate(zip(*columns.values(), strict=True)):
        image, regions, boxes, caption = (None if _is_null(cell) else cell for cell in cells)
        has_image = image is not None or regions is not None
        try:
            _check_image(image, regions, boxes, required=pairs)
            if regions is not None:
                images[row] = seen.regions(regions, boxes, feature_dim, request.images)
            elif image is not None:
                images[row] = seen.image(image, request.images)
        except _CellError as error:
            request.fail(row, error.column, str(error))
        try:
            _check_caption(caption, required=pairs or not has_image)
            if caption is not None:
                captions[row] = seen.caption(caption, request.captions)
        except _CellError as error:
            request.fail(row, error.column, str(error))
        if pairs and row in request.problems:
            images[row] = captions[row] = -1
    request.image_of_row, request.caption_of_row = images, captions
    return request


def _check_image(image: Any, regions: Any, boxes: Any, *, required: bool) -> None:
    """Raises _CellError unless the cells of an image, None where they are null, belong together."""
    if image is not None and regions is not None:
        raise _CellError("image", "is given together with regions; give one of them")
    if boxes is not None and regions is None:
        raise _CellError("boxes", "is given without regions; give both or none")
    if required and image is None and regions is None:
        raise _CellError("image", "is missing, and so is regions; give one of them in each row")


def _check_caption(caption: Any, *, required: bool) -> None:
    """Raises _CellError unless a caption, None where it is null, is text with a word."""
    if required and caption is None:
        raise _CellError("caption", "is missing; give one in each row")
    if caption is not None and not isinstance(caption, str):
        by_rows = " in a row of its own (REST: dataframe_records)" if isinstance(caption, list) else ""
        raise _CellError("caption", f"is {type(caption).__name__}; give text{by_rows}")
    if caption is not None and not has_word(caption):
        raise _CellError("caption", "has no word; give text with a letter or a digit")


class _Seen:
    """The positions of the images and captions that were seen, by identity and by content."""

    def __init__(self) -> None:
        self._positions: dict[Any, int] = {}
        self._images: dict[int, int] = {}
        self._arrays: dict[tuple[int, int], int] = {}

    def caption(self, caption: str, captions: list[str]) -> int:
        if len(caption) > _MAX_CAPTION_CHARS:
            raise _CellError("caption", f"has {len(caption)} characters; give at most {_MAX_CAPTION_CHARS}")
        return self._position(("caption", caption), caption, captions)

    def image(self, image: Any, images: list[Any]) -> int:
        if reason := image_error(image):
            raise _CellError("image", reason)
        if isinstance(image, str):
            return self._position(("image", image), image, images)
        if id(image) not in self._images:  # the frame keeps its cells alive
            self._images[id(image)] = self._position(("image", image_key(image)), image, images)
        return self._images[id(image)]

    def regions(self, regions: Any, boxes: Any, feature_dim: int, images: list[Any]) -> int:
        same = id(regions), id(boxes)
        if same not in self._arrays:
            features_RF = _features(regions, feature_dim)
            boxes_R4 = None if boxes is None else _boxes(boxes, len(features_RF))
            key = "regions", _digest(features_RF), None if boxes_R4 is None else _digest(boxes_R4)
            self._arrays[same] = self._position(key, PhotoRegions(features_RF, boxes_R4), images)
        return self._arrays[same]

    def _position(self, key: Any, value: Any, values: list[Any]) -> int:
        if key not in self._positions:
            self._positions[key] = len(values)
            values.append(value)
        return self._positions[key]


def _features(value: Any, feature_dim: int) -> NDArray[Any]:
    """Returns region features as float16 or float32; raises _CellError unless they are finite and R x F."""
    features_RF = _numbers("regions", value)
    if features_RF.ndim != 2 or features_RF.shape[1] != feature_dim or not len(features_RF):
        raise _CellError(
            "regions", f"has shape {features_RF.shape}; give (regions, {feature_dim}), at least one region"
        )
    if len(features_RF) > _MAX_REGIONS:
        raise _CellError("regions", f"has {len(features_RF)} regions; give at most {_MAX_REGIONS}")
    _require("regions", features_RF, np.abs(features_RF) <= _MAX_FEATURE, f"finite numbers up to {_MAX_FEATURE:.0f}")
    return features_RF


def _boxes(value: Any, count: int) -> NDArray[np.float32]:
    boxes_R4 = _numbers("boxes", value).astype(np.float32)
    if boxes_R4.shape != (count, 4):
        raise _CellError("boxes", f"has shape {boxes_R4.shape}; give ({count}, 4), x0 y0 x1 y1 of each region")
    _require("boxes", boxes_R4, np.isfinite(boxes_R4), "finite numbers")
    ordered_R4 = np.tile(boxes_R4[:, 2:] >= boxes_R4[:, :2], 2)
    _require("boxes", boxes_R4, ordered_R4, "x0 y0 x1 y1 with x0 <= x1 and y0 <= y1")
    return boxes_R4


def _numbers(column: str, value: Any) -> NDArray[Any]:
    """Returns an array, nested lists, .npy bytes or base64 text of them as float16 or float32."""
    try:
        if isinstance(value, str):
            value = from_base64(value)
        array = load_npy(bytes(value)) if isinstance(value, bytes | bytearray | memoryview) else np.asarray(value)
        if array.dtype == object:  # rows that are arrays, as Parquet and Spark give them, or that contain None
            array = np.stack([np.asarray(row, np.float32) for row in array])
    except (ValueError, TypeError, OverflowError) as error:
        raise _CellError(column, f"is not an array of numbers ({error}); give an array, or .npy bytes") from error
    if array.dtype.kind not in "fiu":
        raise _CellError(column, f"is an array of {array.dtype}; give numbers")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite and is rejected
        return array if array.dtype in (np.float16, np.float32) else array.astype(np.float32)


def _require(column: str, array: NDArray[Any], is_valid: NDArray[np.bool_], expected: str) -> None:
    if not is_valid.all():
        row, channel = np.argwhere(~is_valid)[0].tolist()
        raise _CellError(column, f"has {array[row, channel]} at [{row}, {channel}]; give {expected}")


def _digest(array: NDArray[Any]) -> tuple[Any, ...]:
    return array.shape, array.dtype.str, hashlib.sha256(np.ascontiguousarray(array).data).digest()


def _is_null(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))
