"""Backgrounds: determined by name and seed, and duller than the things on them."""

import numpy as np
import pytest

from pipelines.datasets.scenes.backgrounds import draw_background
from pipelines.datasets.scenes.world import BACKGROUNDS, HEIGHT, WIDTH


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_a_background_is_determined_by_its_seed(name):
    image = draw_background(name, 3)
    assert (image.mode, image.size) == ("RGB", (WIDTH, HEIGHT))
    assert image.tobytes() == draw_background(name, 3).tobytes()
    assert image.tobytes() != draw_background(name, 4).tobytes()


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_a_background_has_grain_and_muted_colours(name):
    pixels = np.asarray(draw_background(name, 0), float)
    assert pixels.std(axis=(0, 1)).min() > 5
    saturation = (pixels.max(axis=2) - pixels.min(axis=2)).mean()
    assert saturation < 100  # that of the things' red and blue is about 200


def test_backgrounds_differ_in_their_mean_colour():
    means = np.array([np.asarray(draw_background(name, 0), float).mean(axis=(0, 1)) for name in BACKGROUNDS])
    distances = np.linalg.norm(means[:, None] - means[None], axis=2) + 1e9 * np.eye(len(means))
    assert distances.min() > 15


def test_brightness_varies_with_the_seed():
    means = [np.asarray(draw_background("bricks", seed), float).mean() for seed in range(8)]
    assert max(means) / min(means) > 1.05
