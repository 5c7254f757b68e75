"""Tests of the `huggingface_patches` detector on random backbones: cells, their tokens, batches, the whole photo."""

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from pipelines.detectors.contract import check_regions
from pipelines.detectors.huggingface.config import PatchesConfig
from pipelines.detectors.huggingface.patches import PatchDetector, _fractions
from tests.pipelines.detectors.huggingface.conftest import Models
from tests.support.tiny_vision import BACKBONES

pytestmark = pytest.mark.usefixtures("one_thread")

FEATURES = 2e-4
"""Tolerance of batches against single photos, relative to the largest feature."""
PATCHES = {"vit": 8, "dinov2": 5, "clip": 4, "siglip": 4, "resnet": 4}
"""Patches along a side: input over patch size, or over the stride of the network."""
every_family = pytest.mark.parametrize("family", BACKBONES)


def photos() -> list[np.ndarray]:
    degenerate = [np.full((1, 1, 3), 200, np.uint8), np.zeros((3, 500, 3), np.uint8)]
    return [skimage.data.chelsea(), skimage.data.coffee(), *degenerate]


@every_family
def test_regions_conform_to_the_contract(models: Models, family: str):
    built = PatchDetector(PatchesConfig(str(models(family)), grid=3))
    for photo, regions in zip(photos(), built(photos()), strict=True):
        check_regions(regions, photo.shape[:2], built.spec)
    assert built(photos()[:1])[0].features.std(axis=0).mean() > 0.01, "cells differ"


@every_family
def test_batches_equal_single_photos(models: Models, family: str):
    built = PatchDetector(PatchesConfig(str(models(family))))
    single = built(photos())
    built.batch_size = 3
    for one, other in zip(single, built(photos()), strict=True):
        np.testing.assert_array_equal(one.boxes, other.boxes)
        np.testing.assert_allclose(one.features, other.features, atol=FEATURES * np.abs(one.features).max())


@every_family
def test_a_grid_of_the_patches_gives_their_tokens(models: Models, family: str):
    """The oracle runs the model as its documentation does, on the whole photo resized with Pillow."""
    side = PATCHES[family]
    built, photo = PatchDetector(PatchesConfig(str(models(family)), grid=side)), skimage.data.coffee()
    resized = Image.fromarray(photo).resize((built.side, built.side), Image.Resampling.BILINEAR)
    with torch.inference_mode():
        inputs = built.processor(images=resized, do_resize=False, do_center_crop=False, return_tensors="pt")
        hidden = built.network(**inputs).last_hidden_state
    tokens = hidden.flatten(2).transpose(1, 2) if hidden.ndim == 4 else hidden[:, -side * side :]
    (regions,) = built([photo])
    np.testing.assert_allclose(regions.features, tokens[0].numpy(), atol=1e-3)


def test_cells_are_in_rows_over_the_whole_photo(models: Models):
    (regions,) = PatchDetector(PatchesConfig(str(models("clip")), grid=2))([np.zeros((40, 60, 3), np.uint8)])
    assert regions.boxes.tolist() == [[0, 0, 30, 20], [30, 0, 60, 20], [0, 20, 30, 40], [30, 20, 60, 40]]
    assert (regions.classes == 0).all()
    assert (regions.confidences == 1).all()


def test_a_cell_is_the_mean_of_its_patches_by_area():
    np.testing.assert_allclose(_fractions(2, 4), [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])
    np.testing.assert_allclose(_fractions(2, 3), [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]])
    np.testing.assert_allclose(_fractions(4, 2), [[1, 0], [1, 0], [0, 1], [0, 1]])


def test_a_changed_corner_changes_its_cell_most(models: Models):
    """Rows and columns are not exchanged."""
    photo = skimage.data.coffee()
    changed = photo.copy()
    changed[: photo.shape[0] // 3, -photo.shape[1] // 3 :] = 255
    built = PatchDetector(PatchesConfig(str(models("resnet")), grid=3))
    before, after = built([photo, changed])
    assert int(np.abs(before.features - after.features).sum(axis=1).argmax()) == 2
