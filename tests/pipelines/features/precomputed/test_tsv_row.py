"""Rows of a bottom-up-attention TSV: valid values, and the reason of each kind of invalid row."""

import base64

import numpy as np
import pytest

from pipelines.features.precomputed.tsv_arrays import RowError
from pipelines.features.precomputed.tsv_row import decode_row
from tests.support.precomputed import Photo, floats, integers

BOXES = Photo("104").boxes.ravel().tolist()
NAN_FEATURES = [float("nan")] + [0.0] * (36 * 8 - 1)


def error_of(line: str) -> str:
    """Returns the reason why a row is invalid beside a valid one of the same photo."""
    row_format = decode_row((Photo("104").ten() if line.count("\t") == 9 else Photo("104").six()).encode()).row_format
    with pytest.raises(RowError) as caught:
        decode_row(line.encode(), row_format)
    return str(caught.value)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({"features": "!" * 1536}, "features are not valid base64"),
        ({"features": floats([1.0] * 36 * 8)[:-8]}, "features do not fit num_boxes"),
        ({"features": floats([1.0] * 36 * 8)[:-3]}, "features are not valid base64"),
        ({"features": floats([1.0] * 36 * 9)}, "features do not have the width of the first row"),
        ({"features": ""}, "features do not fit num_boxes"),
        ({"features": floats(NAN_FEATURES)}, "features are not finite"),
        ({"features": floats([7e4] * 36 * 8)}, "features beyond float16 (65504)"),
        ({"boxes": floats(BOXES[:-4])}, "boxes do not fit num_boxes"),
        ({"boxes": floats(BOXES + BOXES)}, "boxes do not fit num_boxes"),
        ({"boxes": floats([*BOXES[:-1], float("inf")])}, "boxes are not finite"),
        ({"boxes": floats([*BOXES[:-1], 482.0])}, "boxes reach outside the photo"),
        ({"boxes": floats([-1.5, *BOXES[1:]])}, "boxes reach outside the photo"),
        ({"boxes": floats([5.0, 5.0, 5.0, 9.0, *BOXES[4:]])}, "boxes without area"),
        ({"boxes": floats([640.5, 5.0, 640.9, 9.0, *BOXES[4:]])}, "boxes without area"),
        ({"num_boxes": 35}, "boxes do not fit num_boxes"),
        ({"num_boxes": -36}, "size or num_boxes is not positive"),
        ({"num_boxes": "many"}, "size or num_boxes is not an integer"),
        ({"image_w": 0}, "size or num_boxes is not positive"),
        ({"more": "columns"}, "the row has neither 6 nor 10 columns"),
    ],
)
def test_an_invalid_row_has_a_reason(line: dict[str, object], reason: str):
    assert error_of(Photo("104").six(**line)) == reason


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({"objects_id": integers([1] * 35)}, "objects_id do not fit num_boxes"),
        ({"attrs_id": floats([1.0] * 36)}, "attrs_id are floating-point numbers; write them as integers"),
        ({"objects_conf": floats([0.5] * 35 + [1.1])}, "objects_conf are outside 0 to 1"),
        ({"attrs_conf": floats([0.5] * 35 + [float("nan")])}, "attrs_conf are outside 0 to 1"),
    ],
)
def test_an_invalid_row_of_ten_columns(line: dict[str, object], reason: str):
    assert error_of(Photo("104").ten(**line)) == reason


def test_boxes_are_clipped_to_the_photo():
    row = decode_row(Photo("104").six(boxes=floats([-0.4, -1e-6, 640.5, 480.9, *BOXES[4:]])).encode())
    assert row.boxes_R4[0].tolist() == [0, 0, 640, 480]


@pytest.mark.parametrize("zeros", [0.0, 0.5])
def test_float16_features_are_rejected(zeros: float):
    rng = np.random.default_rng(0)
    for _ in range(50):
        values = np.abs(rng.normal(size=(36, 64))) * (rng.uniform(size=(36, 64)) >= zeros)
        features = base64.b64encode(values.astype("<f2").tobytes()).decode()
        with pytest.raises(RowError, match="features are float16; write them as float32"):
            decode_row(Photo("104").six(features=features).encode())
        for exact in (np.float16, np.float32):
            row = decode_row(Photo("104").six(features=floats(values.astype(exact).ravel())).encode())
            assert np.array_equal(row.regions_RF, values.astype(exact).astype(np.float16))
