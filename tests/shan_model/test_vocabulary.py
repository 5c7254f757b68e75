import json
import unicodedata

import numpy as np
import pytest

from shan_model.vocabulary import END, PAD, START, UNKNOWN, Vocabulary, has_word, tokenize

SPECIAL = (PAD, UNKNOWN, START, END)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A man, a plan; CANAL!", ["a", "man", "a", "plan", "canal"]),
        ("the dog's ball isn't 'red'", ["the", "dog's", "ball", "isn't", "red"]),
        ("rock'n'roll", ["rock'n'roll"]),
        ("' '' dogs'", ["dogs"]),
        ("2 dogs, 3.5 cats, 1,000.", ["2", "dogs", "3.5", "cats", "1,000"]),
        ("at 5.30pm 1,234,567.89", ["at", "5.30pm", "1,234,567.89"]),
        ("1,2,3 or 10,00", ["1", "2", "3", "or", "10", "00"]),
        ("no 2.Dogs end.2", ["no", "2", "dogs", "end", "2"]),
        ("photo_of ___", ["photo", "of"]),
        ("well-known", ["well", "known"]),
        ("Mädchen in Łódź", ["mädchen", "in", "łódź"]),
        ("Собака бежит", ["собака", "бежит"]),
        ("犬が走る。Dogs々", ["犬", "が", "走", "る", "dogs", "々"]),
        ("개가 달린다", ["개가", "달린다"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("สุนัขวิ่ง", ["สุนัขวิ่ง"]),
        ("İstanbul IŞIK", ["istanbul", "işik"]),
        ("a 🐕 runs", ["a", "runs"]),
        ("❤️ 👨‍👩‍👧 👍🏽 1️⃣", ["1"]),
        ("\u0301 lone mark, \ud800 half a pair", ["lone", "mark", "half", "a", "pair"]),
        ("tab\tand\nline", ["tab", "and", "line"]),
        ("", []),
        (" .,!? ", []),
    ],
)
def test_tokenize(text, words):
    assert tokenize(text) == words


def test_spellings_that_look_the_same_are_the_same_words():
    text = "The naïve man's café"
    assert tokenize(unicodedata.normalize("NFD", text)) == tokenize(text) == ["the", "naïve", "man's", "café"]
    assert tokenize("the man\u2019s café") == tokenize("the man\u02bcs café") == tokenize("the man's café")
    assert tokenize("\uff21 \uff44\uff4f\uff47\uff07\uff53 \ufb01sh \uff76\uff9e") == ["a", "dog's", "fish", "ガ"]
    assert tokenize("foot\u00adball \ufeffma\u200dn") == ["football", "man"]
    assert tokenize("I\u0307 x\u0302") == ["i", "x\u0302"]


def test_a_long_caption_keeps_every_word():
    text = " ".join(f"word{i}" for i in range(500))
    assert len(tokenize(text)) == 500
    assert len(Vocabulary.build([text]).encode(text)) == 502


def test_words_are_ordered_by_frequency_then_alphabetically():
    captions = ["zebra ant", "ant bee zebra", "bee cow"]
    assert Vocabulary.build(captions).words == (*SPECIAL, "ant", "bee", "zebra", "cow")
    assert Vocabulary.build(captions[::-1]) == Vocabulary.build(captions)


@pytest.mark.parametrize(
    ("min_count", "kept"), [(1, ("ant", "bee", "cow")), (2, ("ant", "bee")), (3, ("ant",)), (4, ())]
)
def test_min_count_is_the_minimum_frequency(min_count, kept):
    assert Vocabulary.build(["ant ant bee", "ant bee cow"], min_count).words == (*SPECIAL, *kept)


def test_encode_returns_ids_between_start_and_end():
    vocabulary = Vocabulary.build(["a dog", "a cat"])
    assert vocabulary.words == (*SPECIAL, "a", "cat", "dog")
    assert vocabulary.encode("A dog, a ZEBRA") == [2, 4, 6, 4, 1, 3]
    assert vocabulary.encode("") == [2, 3]
    assert len(vocabulary) == 7


def test_text_cannot_produce_a_special_token():
    """A caption that contains `<end>` is encoded as a word, not as the token."""
    assert not set(SPECIAL) & set(tokenize("<pad> <unk> <start> <end>"))


def test_round_trip_through_its_words():
    vocabulary = Vocabulary.build(["naïve Собака 犬 isn't"])
    again = Vocabulary(tuple(json.loads(json.dumps(vocabulary.words))))
    assert again == vocabulary
    assert hash(again) == hash(vocabulary)
    assert again.encode("Собака isn't") == vocabulary.encode("Собака isn't")


def test_an_invalid_word_list_is_refused():
    with pytest.raises(ValueError, match="must start with <pad> <unk> <start> <end>"):
        Vocabulary(("dog", "cat"))
    with pytest.raises(ValueError, match="repeats a word"):
        Vocabulary((*SPECIAL, "dog", "dog"))


def test_has_word_agrees_with_the_tokenizer():
    points = np.random.default_rng(0).integers(0, 0x20000, (5000, 3))
    for row in points[((points < 0xD800) | (points > 0xDFFF)).all(1)].tolist():  # no surrogates
        text = "".join(map(chr, row))
        assert has_word(text) == bool(tokenize(text)), ascii(text)
