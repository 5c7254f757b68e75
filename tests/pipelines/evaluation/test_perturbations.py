"""Perturbations that make a caption wrong, and those that change only its format."""

import numpy as np
import pytest

from pipelines.evaluation.perturbations import (
    REPLACEMENTS,
    reformat,
    replace_word,
    shuffle_words,
    swap_attributes,
    unusual_texts,
)
from shan_model.vocabulary import tokenize

COLOURS = {"red", "blue", "green"}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_shuffled_words_are_the_same_words_in_another_order(rng):
    caption = "A dog runs over the Field."
    for _ in range(50):
        other = tokenize(shuffle_words(caption, rng))
        assert sorted(other) == sorted(tokenize(caption))
        assert other != tokenize(caption)
    assert shuffle_words("a dog runs", rng) is None
    assert shuffle_words("dog dog dog dog", rng) is None


def test_replacement_has_same_kind_and_is_in_no_caption(rng):
    found = {replace_word("A Red ball, redder than red.", "colour", COLOURS, {"red", "green"}, rng) for _ in range(20)}
    assert found == {"A blue ball, redder than blue."}
    assert replace_word("a red ball", "colour", COLOURS, COLOURS, rng) is None
    assert replace_word("a red ball", "size", COLOURS, set(), rng) is None
    both = {replace_word("a dog on the left", kind, {"right", "cat", "back"}, set(), rng) for kind in REPLACEMENTS}
    assert both == {None, "a cat on the left", "a dog on the right"}


def test_two_attributes_of_one_object_are_not_swapped():
    assert swap_attributes("a Red dog chases a blue ball") == "a blue dog chases a red ball"
    assert swap_attributes("a big dog and a small one") == "a small dog and a big one"
    joined = ("a black and white dog", "a red blue flag", "red, green and blue balls")
    for caption in (*joined, "red dogs, red balls", "a dog"):
        assert swap_attributes(caption) is None


@pytest.mark.parametrize("caption", ["A dog runs .", "two cats", "the café's  door", "Maße"])
def test_reformatted_captions_have_the_same_words(caption: str):
    forms = reformat(caption)
    assert len(forms) == (2 if "ß" in caption else 3)
    for form in forms:
        assert form != caption
        assert tokenize(form) == tokenize(caption)


def test_the_long_text_has_500_words():
    assert len(unusual_texts(["a dog", "two cats sleep"])["a caption of 500 words"].split()) == 500
    assert tokenize(unusual_texts(["x"])["punctuation only"]) == []
