"""Folders of tiny models, one of each family, which tests must not change."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.support.tiny_vision import write_vision_model

Models = Callable[[str], Path]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """Returns a function from a family to the folder of its model."""
    pytest.importorskip("transformers")
    return cache(lambda family: write_vision_model(tmp_path_factory.mktemp(family) / family, family))
