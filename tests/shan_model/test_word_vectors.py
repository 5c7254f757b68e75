"""Tests of reading word vectors: the three formats, peculiarities of real files, and invalid files."""

import random
import tracemalloc

import numpy as np
import pytest

from shan_model.vocabulary import Vocabulary
from shan_model.word_vectors import read_word_vectors
from tests.support.bad_stores import closed

VOCABULARY = Vocabulary.build(["dog dog dog", "dog café", "café cat"])  # dog, café, cat
LINES = ["the 1 2 3", "dog 0.5 -1e-2 3", "CAT 7 7 7", "café 4 5 6"]
DOG, CAFE, ABSENT = [0.5, -0.01, 3], [4, 5, 6], [0, 0, 0]


@pytest.fixture
def written(tmp_path):
    def write(content: bytes | str, name="vectors.txt"):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def rows(path):
    return read_word_vectors(path, VOCABULARY).vectors_VE[4:].tolist()


def near(*vectors):
    return [pytest.approx(vector) for vector in vectors]


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(LINES),
        "\n".join(LINES) + "\n",
        "4 3\n" + "\n".join(LINES) + "\n",
        "4 3 \r\n" + " \r\n".join(LINES) + " \r\n",
        "\ufeff" + "\n".join(LINES),
        "\ufeff4 3\n" + "\n".join(LINES),
    ],
    ids=[
        "GloVe",
        "GloVe with a last end of line",
        "word2vec",
        "fastText on Windows",
        "GloVe and BOM",
        "word2vec and BOM",
    ],
)
def test_text_files_give_each_word_its_vector(text, written):
    assert rows(written(text)) == near(DOG, CAFE, ABSENT)


def test_npz_files_give_each_word_its_vector(tmp_path):
    words = [line.split()[0] for line in LINES]
    vectors = np.array([[float(x) for x in line.split()[1:]] for line in LINES])
    np.savez(tmp_path / "v.npz", words=np.array([*words, "dog"]), vectors=np.vstack([vectors, [9, 9, 9]]))
    assert rows(tmp_path / "v.npz") == near(DOG, CAFE, ABSENT)


def test_special_tokens_and_missing_words_get_zeros(written):
    found = read_word_vectors(written("<unk> 1 1\n<pad> 1 1\ndog 1 2\n"), VOCABULARY)
    assert found.vectors_VE.tolist() == [*[[0, 0]] * 4, [1, 2], [0, 0], [0, 0]]
    assert found.found == {"dog"}


def test_words_with_spaces_are_not_split(written):
    """GloVe 840B contains `. . .` and `at name@domain.com`; a word may also be a non-ASCII space."""
    odd = [". . . 1 1 1", "dog name@domain.com 2 2 2", "\u00a0 3 3 3", "\u0085dog 4 4 4", "dog\u2028 5 5 5"]
    assert rows(written("\n".join([LINES[0], *odd, *LINES[1:]]))) == near(DOG, CAFE, ABSENT)


def test_the_first_occurrence_of_a_repeated_word_counts(written):
    assert rows(written("\n".join([*LINES, "dog 9 9 9", "cafe\u0301 8 8 8"]))) == near(DOG, CAFE, ABSENT)


def test_invalid_utf8_does_not_affect_other_words(written):
    lines = [line.encode() for line in LINES]
    assert rows(written(b"\n".join([lines[0], b"d\xffog 1 1 1", b"\xc3 2 2 2", *lines[1:]]))) == near(DOG, CAFE, ABSENT)


def test_coverage_of_the_vocabulary_and_of_the_captions(written):
    coverage = read_word_vectors(written("\n".join(LINES)), VOCABULARY).coverage(["A dog, a DOG and a cat", ""])
    assert (coverage.words, coverage.tokens) == (pytest.approx(2 / 3), pytest.approx(2 / 7))
    assert "66.7%" in str(coverage)
    nothing = read_word_vectors(written("\n".join(LINES)), Vocabulary.build([])).coverage([])
    assert (nothing.words, nothing.tokens) == (0, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no word vectors"),
        ("\n\n", "no word vectors"),
        ("2 3\n", "no word vectors"),
        ("the 1 2 3\ndog 1 2\n", "line 2 has 2 numbers, expected 3"),
        ("the 1 2 3\ndog 1 2 3 4\n", "line 2 has 4 numbers, expected 3"),
        ("the 1 2 3\n\ndog 1 2 3\n", "line 2 has 0 numbers"),
        ("the 1 2 3\n1 2 3\n", "line 2 has 2 numbers"),
        ("the 1 2 3\ndog 1 x 3\n", "line 2: 'x' is not a finite number"),
        ("the 1 2 3\ndog 1 nan 3\n", "line 2: 'nan' is not a finite number"),
        ("the 1 2 3\ndog 1 1e39 3\n", "line 2: '1e39' is not a finite number"),
        ("2 3\nthe 1 2 3\ndog 1 2\n", "line 3 has 2 numbers"),
        ("3 3\nthe 1 2 3\ndog 1 2 3\n", "states 3 words, but 2 lines follow; the file is truncated"),
        ("chien 1 2 3\nDog 1 2 3\n", "has none of the vocabulary's 3 words, such as '.*'; give vectors of lower-case"),
        (b"\x00" * 3_000_000, "line 1 is longer"),
    ],
)
def test_an_invalid_text_file_is_refused_naming_the_line(text, message, written):
    path = written(text)
    with pytest.raises(ValueError, match=rf"^{path}.*{message}.*;|^{path}.*{message}"):
        read_word_vectors(path, VOCABULARY)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"file .*none\.txt cannot be read \(No such file or directory\); give"):
        read_word_vectors(tmp_path / "none.txt", VOCABULARY)
    with (
        closed(tmp_path),
        pytest.raises(ValueError, match=r"file .*none\.txt cannot be read \(Permission denied\)"),
    ):
        read_word_vectors(tmp_path / "none.txt", VOCABULARY)


@pytest.mark.parametrize(
    "arrays",
    [
        {"words": np.array(["dog"])},
        {"words": np.array(["dog"], dtype=object), "vectors": np.ones((1, 3))},
        {"words": np.array([b"dog"]), "vectors": np.ones((1, 3))},
        {"words": np.array(["dog", "cat"]), "vectors": np.ones((1, 3))},
        {"words": np.array(["dog"]), "vectors": np.ones(3)},
        {"words": np.array(["dog"]), "vectors": np.ones((1, 0))},
        {"words": np.array(["dog"]), "vectors": np.full((1, 3), np.inf)},
        {"words": np.array(["dog"]), "vectors": np.ones((1, 3), int)},
    ],
)
def test_an_invalid_npz_file_is_refused(arrays, tmp_path):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ValueError, match=r"bad\.npz"):
        read_word_vectors(tmp_path / "bad.npz", VOCABULARY)


@pytest.mark.parametrize("suffix", ["txt", "npz"])
def test_corrupt_files_are_read_or_refused(suffix, tmp_path):
    """Reads 300 files with changed, removed or repeated bytes."""
    good = tmp_path / f"good.{suffix}"
    if suffix == "npz":
        np.savez(good, words=np.array(["dog", "café"]), vectors=np.ones((2, 3)))
    else:
        good.write_text("4 3\n" + "\n".join(LINES) + "\n", encoding="utf-8")
    content, draw, refused = good.read_bytes(), random.Random(0), 0  # noqa: S311 - repeatable
    for _ in range(300):
        corrupted = bytearray(content)
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(len(corrupted))
            cut = draw.choice([bytes([draw.randrange(256)]), b"", corrupted[at : at + 9] * 2, b"\n", b" "])
            corrupted[at : at + draw.randint(1, 9)] = cut
        path = tmp_path / f"corrupted.{suffix}"
        path.write_bytes(corrupted)
        try:
            found = read_word_vectors(path, VOCABULARY)
        except ValueError as error:
            assert str(path) in str(error)  # noqa: PT017 - either outcome is right
            refused += 1
        else:
            assert np.isfinite(found.vectors_VE).all()
    assert 0 < refused <= 300


def test_a_text_file_is_not_loaded_into_memory(tmp_path):
    path = tmp_path / "big.txt"
    numbers = " ".join(["0.12345"] * 100)
    with path.open("w", encoding="utf-8") as file:
        file.write(f"dog {numbers}\n")
        file.writelines(f"word{n} {numbers}\n" for n in range(20_000))
    tracemalloc.start()
    try:
        read_word_vectors(path, VOCABULARY)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4e6 < path.stat().st_size
