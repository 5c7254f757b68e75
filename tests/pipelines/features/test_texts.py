"""Texts of an Arrow array behave as a list of them."""

import numpy as np
import pyarrow as pa
import pytest

from pipelines.features import texts
from pipelines.features.texts import Texts

WORDS = [f"größe {n}" for n in range(25)]


@pytest.mark.parametrize("positions", [None, [24, 0, 3, 3, 7]], ids=["all", "some"])
def test_texts_behave_as_a_list(positions: list[int] | None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(texts, "_CHUNK", 4)
    found = Texts(pa.array(WORDS, pa.large_string()), None if positions is None else np.array(positions))
    expected = WORDS if positions is None else [WORDS[n] for n in positions]
    assert found == expected
    assert expected == found
    assert list(found) == found.array.to_pylist() == expected
    assert [found[n] for n in range(-len(expected), len(expected))] == expected * 2
    assert found[1:-1] == expected[1:-1]
    assert found[::-2] == expected[::-2]
    assert (found.index(expected[2]), expected[0] in found, "none" in found) == (2, True, False)
    assert found != expected[:-1]
    assert found != [*expected[:-1], "other"]
    with pytest.raises(IndexError):
        found[len(expected)]
