"""Tests of the preparation of photos."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
import torch
from torch.nn import functional as F

from pipelines.detectors.bottom_up.preprocess import preprocess, resized


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((300, 451), (600, 902)),
        ((480, 640), (600, 800)),
        ((600, 1000), (600, 1000)),
        ((375, 1242), (302, 1000)),
        ((1200, 900), (800, 600)),
        ((4000, 1000), (1000, 250)),
        ((1, 1), (600, 600)),
        ((1, 3000), (1, 1000)),
        ((90000, 20), (1000, 1)),
    ],
)
def test_sides_of_the_resized_photo(size, expected):
    assert resized(*size, 600, 1000) == expected


@pytest.mark.parametrize(("shortest", "longest"), [(600, 1000), (100, 120), (300, 451)])
def test_pixels_equal_torchs_bilinear_resize(shortest, longest):
    photo = skimage.data.chelsea()
    image, size = preprocess(photo, shortest, longest)
    bgr = torch.from_numpy(photo[:, :, ::-1].copy()).permute(2, 0, 1).float()
    mean = torch.tensor([102.9801, 115.9465, 122.7717])[:, None, None]
    expected = F.interpolate((bgr - mean)[None], size, mode="bilinear", align_corners=False)
    assert image.shape == expected.shape
    torch.testing.assert_close(image, expected, atol=0.02, rtol=0)  # torch samples at float32 positions


def test_strided_photos_give_the_same_pixels():
    mirrored = skimage.data.chelsea()[::3, ::-3]
    mirrored.flags.writeable = False
    assert torch.equal(preprocess(mirrored, 60, 90)[0], preprocess(mirrored.copy(), 60, 90)[0])


def test_a_line_of_pixels_is_padded_to_one_cell():
    image, size = preprocess(np.full((1, 2000, 3), 200, np.uint8), 600, 1000)
    assert (tuple(image.shape), size) == ((1, 3, 16, 1000), (1, 1000))
    torch.testing.assert_close(image[0, :, 0, 7], 200 - torch.tensor([102.9801, 115.9465, 122.7717]))
    assert (image[:, :, 1:] == 0).all()
