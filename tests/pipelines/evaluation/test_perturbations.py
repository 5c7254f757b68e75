"""Rules that make a caption wrong, or write the same one differently."""

import numpy as np
import pytest

from pipelines.evaluation.perturbations import SWAPS, exchanged, odd_texts, restyled, shuffled, swapped
from shan_model.vocabulary import tokenize

COLOURS = {"red", "blue", "green"}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_shuffled_words_are_the_same_words_in_another_order(rng):
    caption = "A dog runs over the Field."
    for _ in range(50):
        other = tokenize(shuffled(caption, rng))
        assert sorted(other) == sorted(tokenize(caption))
        assert other != tokenize(caption)
    assert shuffled("a dog runs", rng) is None
    assert shuffled("dog dog dog dog", rng) is None


def test_a_swap_changes_one_word_for_one_of_its_kind_that_nobody_tells(rng):
    found = {swapped("A Red ball, redder than red.", "colour", COLOURS, {"red", "green"}, rng) for _ in range(20)}
    assert found == {"A blue ball, redder than blue."}
    assert swapped("a red ball", "colour", COLOURS, COLOURS, rng) is None
    assert swapped("a red ball", "size", COLOURS, set(), rng) is None
    both = {swapped("a dog on the left", kind, {"right", "cat", "back"}, set(), rng) for kind in SWAPS}
    assert both == {None, "a cat on the left", "a dog on the right"}


def test_two_attributes_change_places_unless_they_belong_to_one_thing():
    assert exchanged("a Red dog chases a blue ball") == "a blue dog chases a red ball"
    assert exchanged("a big dog and a small one") == "a small dog and a big one"
    joined = ("a black and white dog", "a red blue flag", "red, green and blue balls")
    for said in (*joined, "red dogs, red balls", "a dog"):
        assert exchanged(said) is None


@pytest.mark.parametrize("caption", ["A dog runs .", "two cats", "the café's  door", "Maße"])
def test_restyled_captions_have_the_same_words(caption: str):
    forms = restyled(caption)
    assert len(forms) == (2 if "ß" in caption else 3)
    for form in forms:
        assert form != caption
        assert tokenize(form) == tokenize(caption)


def test_the_long_text_has_500_words():
    assert len(odd_texts(["a dog", "two cats sleep"])["a caption of 500 words"].split()) == 500
    assert tokenize(odd_texts(["x"])["no letters"]) == []
