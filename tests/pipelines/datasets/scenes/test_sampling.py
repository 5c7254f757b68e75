"""Tests of the random sampling of scenes."""

import random

from pipelines.datasets.scenes.sampling import draw_split


def test_a_used_combination_is_not_drawn_again():
    """The random stream is the same twice, so only the record of used combinations makes the splits differ."""
    used = set()
    first, second = (draw_split(random.Random(1), 40, 0.5, used) for _ in range(2))  # noqa: S311 - no secrets
    assert not {d.scene.key for d in first} & {d.scene.key for d in second}
