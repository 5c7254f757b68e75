"""Tests of the caption reader that other tests rely on."""

import pytest

from tests.support.caption_reader import is_true, read


def test_reads_a_relation_from_both_sides():
    reading = read("On the sand, a big red star with dots is to the left of a ring.")
    assert reading.things == [
        {"size": "large", "texture": "dotted", "colour": "red", "shape": "star"},
        {"shape": "ring"},
    ]
    assert reading.relations == [(0, ("x", -1), 1)]
    assert reading.background == "sand"
    assert read("A ring and, to its left, a red star.").relations == [(1, ("x", -1), 0)]


def test_an_unknown_wording_is_an_error():
    with pytest.raises(ValueError, match="next to"):
        read("A red star next to a blue ring.")


def test_truth_depends_on_the_positions_of_the_things():
    photo = {
        "background": "sea",
        "objects": [
            {"shape": "star", "colour": "red", "box": [0, 0, 50, 50]},
            {"shape": "ring", "colour": "blue", "box": [100, 0, 150, 50]},
        ],
    }
    assert is_true(read("A red star left of a blue ring on the sea."), photo)
    assert not is_true(read("A blue ring left of a red star on the sea."), photo)
    assert not is_true(read("A blue star left of a red ring."), photo)
    assert not is_true(read("A red star left of a blue ring at night."), photo)
    assert not is_true(read("A red star in front of a blue ring."), photo)
    assert not is_true(read("Three shapes: a red star and a blue ring."), photo)
