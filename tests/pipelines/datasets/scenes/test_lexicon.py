"""The words of the captions: each belongs to one value, and a noun phrase has them in the order of English."""

import random

import pytest

from pipelines.datasets.scenes import lexicon
from pipelines.datasets.scenes.lexicon import draw_lexicon, noun_phrase
from pipelines.datasets.scenes.world import BACKGROUNDS, RELATIONS, SHAPES, SIZES, TEXTURES

TABLES = {
    "shape": (lexicon.SHAPE_WORDS, SHAPES),
    "size": (lexicon.SIZE_WORDS, SIZES),
    "texture": (lexicon.TEXTURE_WORDS, TEXTURES),
    "background": (lexicon.BACKGROUND_WORDS, BACKGROUNDS),
    "relation": (lexicon.RELATION_WORDS, RELATIONS),
    "its": (lexicon.ITS_WORDS, RELATIONS),
}
each_table = pytest.mark.parametrize(("words", "values"), TABLES.values(), ids=TABLES)
LEXICON = {"red": "red", "ring": "hoop", "large": "big", "small": "little", "striped": "with stripes", "plain": "plain"}


@each_table
def test_every_value_of_the_world_has_words(words, values):
    assert set(words) == set(values)
    assert all(words.values())


@each_table
def test_a_word_belongs_to_one_value(words, values):
    listed = [word for value in values for word in words[value]]
    assert len(set(listed)) == len(listed)


def test_the_article_is_always_a():
    for words, _ in (TABLES["shape"], TABLES["size"], TABLES["texture"]):
        assert not [word for some in words.values() for word in some if word[0] in "aeiou"]


def test_the_inverse_of_the_inverse_is_the_relation():
    assert set(lexicon.INVERSE) == set(RELATIONS)
    for relation, inverse in lexicon.INVERSE.items():
        assert inverse != relation
        assert lexicon.INVERSE[inverse] == relation


def test_a_lexicon_has_one_word_per_value_of_the_seed():
    drawn = draw_lexicon(random.Random(1))  # noqa: S311
    assert set(drawn) == {*SHAPES, *SIZES, *TEXTURES}
    assert drawn == draw_lexicon(random.Random(1))  # noqa: S311
    several = [draw_lexicon(random.Random(seed))["ring"] for seed in range(20)]  # noqa: S311
    assert set(several) == {"ring", "hoop"}


@pytest.mark.parametrize(
    ("values", "phrase"),
    [
        ({"shape": "ring"}, "a hoop"),
        ({"shape": "ring", "colour": "red"}, "a red hoop"),
        ({"shape": "ring", "colour": "red", "size": "large", "texture": "plain"}, "a big plain red hoop"),
        ({"shape": "ring", "colour": "red", "size": "small", "texture": "striped"}, "a little red hoop with stripes"),
    ],
)
def test_a_noun_phrase_has_the_order_of_english(values, phrase):
    assert noun_phrase(values, LEXICON) == phrase
