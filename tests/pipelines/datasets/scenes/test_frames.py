"""Sentence frames of scenes whose relations are known: from left to right a star, a ring and a cross, far apart."""

import random
from dataclasses import replace

import pytest

from pipelines.datasets.scenes.frames import Frame, draw_list, draw_pair, draw_row, draw_which
from pipelines.datasets.scenes.world import Scene, Swap, Thing

STAR, RING, CROSS = (
    Thing(shape, "red", "small", "plain", x, 120.0, 0.0)
    for shape, x in (("star", 40.0), ("ring", 150.0), ("cross", 260.0))
)
SCENE = Scene("sand", (RING, CROSS, STAR), 0)
"""Thing 2 is left of thing 0, which is left of thing 1."""
PLACE = {2: 0, 0: 1, 1: 2}
"""Place of each thing, counted from the left."""


def drawn(draw, scene=SCENE, swap=None, seeds=60):
    return [frame for seed in range(seeds) if (frame := draw(random.Random(seed), scene, swap)) is not None]  # noqa: S311


def check_relations(frame):
    for first, relation, second in frame.relations:
        offset = PLACE[frame.slots[second]] - PLACE[frame.slots[first]]
        assert (relation, offset > 0) in {("left of", True), ("right of", False)}, frame


@pytest.mark.parametrize("draw", [draw_pair, draw_which])
def test_relations_are_those_of_the_scene(draw):
    frames = drawn(draw)
    assert len(frames) > 20
    for frame in frames:
        check_relations(frame)
    assert {relation for frame in frames for _, relation, _ in frame.relations} == {"left of", "right of"}


def test_a_pair_seen_from_its_second_thing_is_inverted():
    """ "{0} and, to its left, {1}": {1} is on the left."""
    for frame in drawn(draw_pair, seeds=200):
        if "its" in frame.text:
            is_left = PLACE[frame.slots[1]] < PLACE[frame.slots[0]]
            assert ("left" in frame.text, "right" in frame.text) == (is_left, not is_left), frame


def test_a_row_lists_all_things_in_their_order():
    frames = drawn(draw_row)
    for frame in frames:
        places = [PLACE[thing] for thing in frame.slots]
        assert places == ([0, 1, 2] if "from left to right" in frame.text else [2, 1, 0])
        check_relations(frame)
    assert {frame.relations[0][1] for frame in frames} == {"left of", "right of"}  # they are not one above another


def test_things_that_are_close_form_no_row():
    close = replace(SCENE, things=(RING, replace(CROSS, x=RING.x + 41), STAR))
    assert not drawn(draw_row, close)
    assert drawn(draw_row, replace(SCENE, things=(RING, replace(CROSS, x=RING.x + 43), STAR)))


def test_a_list_names_every_thing_once_and_may_count_them():
    frames = drawn(draw_list)
    assert all(sorted(frame.slots) == [0, 1, 2] and not frame.relations for frame in frames)
    for frame in frames:
        assert [frame.text.count(f"{{{k}}}") for k in range(3)] == [1, 1, 1]
        assert (frame.count, "three" in frame.text) in {(3, True), (None, False)}
    assert {frame.count for frame in frames} == {3, None}


def test_a_list_cannot_distinguish_swapped_places():
    assert not drawn(draw_list, swap=Swap(0, 1, "place"))
    assert drawn(draw_list, swap=Swap(0, 1, "colour"))


@pytest.mark.parametrize("draw", [draw_pair, draw_which])
def test_frames_of_a_minimal_pair_name_what_was_swapped(draw):
    frames = drawn(draw, swap=Swap(1, 2, "colour"))
    assert frames
    assert all({1, 2} <= set(frame.slots) for frame in frames)


def test_scenes_without_the_needed_things_have_no_frame():
    two = replace(SCENE, things=SCENE.things[:2])
    assert not drawn(draw_which, two)
    on_a_diagonal = replace(two, things=(RING, replace(RING, x=RING.x + 70, y=RING.y + 65)))
    assert not drawn(draw_pair, on_a_diagonal)  # neither direction is clear


@pytest.mark.parametrize(
    ("text", "where", "expected"),
    [
        ("{0} and {1}", "before", "at night, {0} and {1}"),
        ("{0} and {1}", "after", "{0} and {1} at night"),
        ("three shapes: {0} and {1}", "after", "three shapes at night: {0} and {1}"),
        ("a picture of {0}", "before", "a picture of {0} at night"),
        ("a picture with two things: {0}", "before", "a picture with two things at night: {0}"),
    ],
)
def test_the_background_is_named_where_it_fits(text, where, expected):
    assert Frame(text, text, (0,)).with_background("at night", where).text == expected
