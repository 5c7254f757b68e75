"""Fixtures of the scene tests: one large data set, its ground truth and its minimal pairs."""

import pytest

from pipelines.datasets.scenes import generate as generate_module
from pipelines.datasets.scenes.config import ScenesConfig
from pipelines.datasets.scenes.dataset import draw_dataset
from pipelines.datasets.scenes.render import find_boxes

LARGE = ScenesConfig(train=160, val=40, test=80)


@pytest.fixture(scope="session")
def entries():
    return draw_dataset(LARGE)


@pytest.fixture(scope="session")
def truth(entries):
    """Ground truth of each scene, as in objects.json, by name."""
    return {e.name: generate_module._describe(e, find_boxes(e.scene)) for e in entries}


@pytest.fixture(scope="session")
def pairs(entries):
    by_name = {entry.name: entry for entry in entries}
    return [(e, by_name[e.counterpart]) for e in entries if e.counterpart is not None and e.name < e.counterpart]
