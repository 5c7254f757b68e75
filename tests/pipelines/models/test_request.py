"""Rows of a request: every accepted form of regions and captions, and an error for each kind of bad cell."""

import base64
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from infra.errors import UserError
from pipelines.features.npy import save_npy
from pipelines.models.request import read_request

REGIONS = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
BOXES = np.array([[0, 0, 4, 4]] * 3, np.float32)
NPY = save_npy(REGIONS)


def read(rows: list[dict], *, pairs: bool = True, raises: bool = True):
    return read_request(pd.DataFrame(rows), 8, pairs=pairs, raises=raises)


def archive() -> bytes:
    """Returns the bytes of an .npz file."""
    buffer = io.BytesIO()
    np.savez(buffer, regions=REGIONS)
    return buffer.getvalue()


def with_value(value: float) -> np.ndarray:
    changed = REGIONS.copy()
    changed[1, 4] = value
    return changed


@pytest.mark.parametrize(
    "regions",
    [
        REGIONS,
        REGIONS.astype(np.float64),
        REGIONS.tolist(),
        list(REGIONS),
        np.array([*REGIONS, None], object)[:3],
        NPY,
        bytearray(NPY),
        base64.b64encode(NPY).decode(),
        base64.encodebytes(NPY).decode(),
    ],
)
def test_every_form_of_regions_is_the_same_image(regions):
    rows = [{"regions": REGIONS, "caption": "a"}, {"regions": regions, "caption": "b"}]
    request = read(rows)
    assert len(request.images) == 1
    np.testing.assert_array_equal(request.images[0].features_RF, REGIONS)
    assert request.image_of_row.tolist() == [0, 0]
    assert request.captions == ["a", "b"]


def test_float16_regions_keep_their_type():
    (image,) = read([{"regions": REGIONS.astype(np.float16), "boxes": BOXES.tolist(), "caption": "a"}]).images
    assert image.features_RF.dtype == np.float16
    np.testing.assert_array_equal(image.boxes_R4, BOXES)


def test_equal_images_and_captions_are_one():
    rows = [{"image": image, "caption": caption} for image in (b"1", b"2", b"1") for caption in ("a", "b")]
    request = read(rows)
    assert request.images == [b"1", b"2"]
    assert request.captions == ["a", "b"]
    assert request.image_of_row.tolist() == [0, 0, 1, 1, 0, 0]
    assert request.caption_of_row.tolist() == [0, 1, 0, 1, 0, 1]


def test_equal_images_of_any_form_are_one(tmp_path: Path):
    path = tmp_path / "photo.png"
    Image.new("RGB", (4, 6), "red").save(path)
    data = path.read_bytes()
    of_file = [data, bytearray(data), memoryview(data), Image.open(path), Image.open(path)]
    in_memory = [Image.new("RGB", (4, 6), "red"), Image.new("RGB", (4, 6), "red")]
    forms = [*of_file, *in_memory, path, str(path), Image.new("RGB", (4, 6), "blue")]
    request = read([{"image": image, "caption": "a"} for image in forms])
    assert request.image_of_row.tolist() == [0] * 5 + [1, 1, 2, 2, 3]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            {"regions": with_value(np.nan), "caption": "a"},
            r"column regions: has nan at \[1, 4\]; give finite",
        ),
        ({"regions": with_value(np.inf), "caption": "a"}, r"column regions: has inf at \[1, 4\]"),
        ({"regions": REGIONS * np.float32(1e6), "caption": "a"}, r"column regions: has \S+ at .* up to 65504"),
        ({"regions": REGIONS.astype(np.float64) * 1e300, "caption": "a"}, "column regions: has -?inf"),
        ({"regions": [[1.0] * 7 + [None]], "caption": "a"}, r"column regions: has nan at \[0, 7\]"),
        ({"regions": REGIONS[:, :7], "caption": "a"}, r"regions: has shape \(3, 7\); give \(regions, 8\)"),
        ({"regions": REGIONS[0], "caption": "a"}, r"regions: has shape \(8,\)"),
        ({"regions": REGIONS[:0], "caption": "a"}, r"regions: has shape \(0, 8\)"),
        ({"regions": [[10**400] * 8], "caption": "a"}, "regions: is not an array of numbers"),
        ({"regions": [[1.0], [1.0, 2.0]], "caption": "a"}, "regions: is not an array of numbers"),
        ({"regions": b"\x93NUMPY", "caption": "a"}, "regions: is not an array of numbers"),
        ({"regions": "no base64", "caption": "a"}, "regions: is not an array of numbers"),
        ({"regions": archive(), "caption": "a"}, "regions: is not an array of numbers"),
        ({"regions": REGIONS, "caption": " "}, "column caption: has no word; give text with a letter or a digit"),
        ({"regions": REGIONS, "caption": "?!"}, "column caption: has no word"),
        ({"regions": REGIONS, "caption": "\u200b"}, "column caption: has no word"),
        (
            {"regions": np.ones((10_001, 8)), "caption": "a"},
            "column regions: has 10001 regions; give at most 10000",
        ),
        ({"regions": REGIONS, "caption": "a " * 5001}, "column caption: has 10002 characters; give at most 10000"),
        (
            {"regions": REGIONS, "boxes": BOXES[:, ::-1], "caption": "a"},
            r"boxes: has \S+ at \[0, 0\]; give x0 y0 x1 y1",
        ),
        ({"regions": np.array([["a"] * 8]), "caption": "a"}, "regions: is an array of <U1; give numbers"),
        ({"regions": REGIONS, "boxes": BOXES[:2], "caption": "a"}, r"boxes: has shape \(2, 4\); give \(3, 4\)"),
        ({"regions": REGIONS, "boxes": BOXES * np.nan, "caption": "a"}, r"boxes: has nan at \[0, 0\]"),
        ({"image": b"1", "boxes": BOXES, "caption": "a"}, "boxes: is given without regions"),
        ({"image": b"1", "regions": REGIONS, "caption": "a"}, "image: is given together with regions"),
        ({"image": 5, "caption": "a"}, "image: is int; give bytes, base64 text, a path, a URI, a PIL image or an RGB"),
        ({"image": np.zeros((4, 4)), "caption": "a"}, r"image: is an array of float64 \(4, 4\); give RGB, uint8"),
        ({"image": None, "caption": "a"}, "image: is missing, and so is regions"),
        ({"image": b"1", "caption": None}, "caption: is missing; give one in each row"),
        ({"image": b"1", "caption": float("nan")}, "caption: is missing"),
        ({"image": b"1", "caption": 5}, "caption: is int; give text"),
        (
            {"image": b"1", "caption": ["a"]},
            r"caption: is list; give text in a row of its own \(REST: dataframe_records\)",
        ),
    ],
)
def test_a_bad_cell_is_an_error_with_row_and_column(row: dict, said: str):
    good = {"image": b"good", "caption": "good"}
    with pytest.raises(UserError, match=f"^row 1, column {said.removeprefix('column ')}") as caught:
        read([good, row, good])
    assert "params={'on_error': 'null'}" in str(caught.value)
    request = read([good, row, good], raises=False)
    assert list(request.problems) == [1]
    assert request.image_of_row.tolist() == [0, -1, 0]
    assert request.caption_of_row[[0, 2]].tolist() == [0, 0]


def test_missing_columns_and_empty_frames():
    assert read_request(pd.DataFrame({"image": [], "caption": []}), 8, pairs=True, raises=True).images == []
    for row in ({"caption": "a"}, {"image": b"1"}):
        with pytest.raises(UserError, match="the input needs column caption, and column image or regions"):
            read([row])
    for pairs in (True, False):
        with pytest.raises(UserError, match="the input has no column image, regions or caption; name its columns so"):
            read([{"Image": b"1", "Caption": "a"}], pairs=pairs)


def test_rows_without_pairs_accept_image_or_caption():
    request = read([{"image": b"1"}, {"caption": "a"}], pairs=False)
    assert request.image_of_row.tolist() == [0, -1]
    assert request.caption_of_row.tolist() == [-1, 0]
    with pytest.raises(UserError, match="row 1, column caption: is missing"):
        read([{"image": b"1"}, {"image": None}], pairs=False)
