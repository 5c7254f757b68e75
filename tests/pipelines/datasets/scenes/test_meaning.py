"""Tests of the scene index: nearly every caption is true of exactly one scene of its split."""

import numpy as np

from pipelines.datasets.scenes.meaning import SceneIndex


def test_captions_single_out_their_scene(entries):
    """Measured with the generator's own index; `test_captions` repeats it with an independent reader."""
    for split in ("train", "val", "test"):
        inside = [entry for entry in entries if entry.split == split]
        index = SceneIndex([entry.scene for entry in inside])
        matches = [index.matches(statement) for entry in inside for statement in entry.statements]
        assert all(k // 5 in found for k, found in enumerate(matches))
        assert np.mean([len(found) == 1 for found in matches]) > 0.99
