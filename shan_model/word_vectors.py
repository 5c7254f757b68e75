"""Pretrained word vectors from a file: those of a vocabulary's words, and how much of the text they cover.

Three formats:

- GloVe's text: a line is a word and its E numbers, all separated by one space.
- word2vec's text (fastText's too): the same after a first line of two whole numbers, how many words and E.
- `.npz`: an array `words` of N unicode strings and an array `vectors` N x E of floats (numpy.savez, no pickles).

A text is read line by line and only the words of the vocabulary are kept, so its size does not matter; an .npz is held
whole while it is read. Where a word comes twice, the first counts. Words are compared as they are spelled (NFC).
"""

import unicodedata
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from shan_model.vocabulary import Vocabulary, tokenize

LONGEST_LINE = 1 << 20
"""Bytes; a file without ends of lines is no text, and must not be read into memory as one."""

LARGEST = float(np.finfo(np.float32).max)

_NPZ = "save it as numpy.savez(path, words=<N unicode strings>, vectors=<N x E floats>)"

Vectors = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Coverage:
    """Shares, 0 to 1, that have a vector: of the vocabulary's words (special tokens aside), of the captions' words."""

    words: float
    tokens: float

    def __str__(self) -> str:
        return f"word vectors for {self.words:.1%} of the vocabulary, {self.tokens:.1%} of the captions' words"


@dataclass(frozen=True)
class WordVectors:
    """What a file knows of a vocabulary."""

    vocabulary: Vocabulary
    vectors_VE: NDArray[np.float32]
    """One row a word; zeros for words without a vector [D] and for the special tokens."""
    found: frozenset[str]
    """The words of the vocabulary that the file has."""

    def coverage(self, captions: Iterable[str]) -> Coverage:
        """How much of the vocabulary, and of these captions, has a vector; 0 where there is nothing to count."""
        hits = [word in self.found for caption in captions for word in tokenize(caption)]
        words = len(self.vocabulary) - 4
        return Coverage(len(self.found) / max(1, words), sum(hits) / max(1, len(hits)))


def read_word_vectors(path: Path, vocabulary: Vocabulary) -> WordVectors:
    """The vectors of the vocabulary's words. ValueError names the file, the line and the fix."""
    if not path.is_file():
        raise ValueError(f"there is no file {path}; name a GloVe or word2vec text, or an .npz")
    wanted = frozenset(vocabulary.words[4:])
    width, vectors = (_read_npz if path.suffix == ".npz" else _read_text)(path, wanted)
    vectors_VE = np.zeros((len(vocabulary), width), np.float32)
    for row, word in enumerate(vocabulary.words):
        if word in vectors:
            vectors_VE[row] = vectors[word]
    return WordVectors(vocabulary, vectors_VE, frozenset(vectors))


def _read_text(path: Path, wanted: Collection[str]) -> tuple[int, Vectors]:
    vectors: Vectors = {}
    with path.open("rb") as file:
        lines = _lines(file, path)
        first = next(lines, (0, b""))
        stated = _header(first[1])
        if stated:
            first = next(lines, (1, b""))
        width = stated[1] if stated else first[1].count(b" ")
        if width < 1 or not first[1]:
            raise ValueError(f"{path} has no word vectors; each of its lines must be a word and its numbers")
        for number, line in chain([first], lines):
            word = _word(line, width, f"{path}, line {number}")
            if word in wanted and word not in vectors:
                vectors[word] = _numbers(line, width, f"{path}, line {number}")
    if stated and number != stated[0] + 1:
        raise ValueError(
            f"{path}, line 1 says {stated[0]} words, but {number - 1} lines follow; the file is cut off, get it again"
        )
    return width, vectors


def _lines(file: BinaryIO, path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines from 1, without the space or carriage return that some tools leave at the end."""
    for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), 1):
        if len(line) == LONGEST_LINE:
            raise ValueError(
                f"{path}, line {number} is longer than {LONGEST_LINE} bytes; unpack a packed file, "
                "and save word2vec's binary form as text"
            )
        yield number, line.rstrip(b" \r\n")


def _header(line: bytes) -> tuple[int, int] | None:
    parts = line.split(b" ")
    return (int(parts[0]), int(parts[1])) if len(parts) == 2 and all(part.isdigit() for part in parts) else None


def _word(line: bytes, width: int, place: str) -> str:
    """The word of a line. Some of GloVe's hold spaces; bytes that are no UTF-8 become U+FFFD, which is in no word."""
    spaces = line.count(b" ")
    word = line[: line.index(b" ")] if spaces == width else line.rsplit(b" ", width)[0]
    if spaces < width or (b" " in word and all(_is_number(part) for part in word.split(b" ")[1:])):
        raise ValueError(
            f"{place} has {spaces} numbers, other lines have {width}; correct or delete it (a packed file must be "
            "unpacked, and word2vec's binary form be saved as text)"
        )
    return unicodedata.normalize("NFC", word.decode("utf-8", errors="replace"))


def _is_number(part: bytes) -> bool:
    try:
        float(part)
    except ValueError:
        return False
    return True


def _numbers(line: bytes, width: int, place: str) -> NDArray[np.float32]:
    parts = line.rsplit(b" ", width)[1:]
    bad = next((part for part in parts if not (_is_number(part) and abs(float(part)) <= LARGEST)), None)
    if bad is not None:
        shown = bad[:20].decode("utf-8", errors="replace")
        raise ValueError(f"{place}: {shown!r} is no finite number; correct or delete the line")
    return np.array([float(part) for part in parts], np.float32)


def _read_npz(path: Path, wanted: Collection[str]) -> tuple[int, Vectors]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            words, vectors_NE = arrays["words"], arrays["vectors"]
            spelled = words.tolist()
    except Exception as error:  # a damaged zip makes zipfile and numpy raise a dozen kinds
        raise ValueError(f"{path} cannot be read ({error}); {_NPZ}") from error
    if words.dtype.kind != "U" or vectors_NE.dtype.kind != "f" or words.ndim != 1 or vectors_NE.ndim != 2:
        raise ValueError(
            f"{path}: words is {words.dtype} {words.shape}, vectors is {vectors_NE.dtype} {vectors_NE.shape}; {_NPZ}"
        )
    if len(words) != len(vectors_NE) or not vectors_NE.size:
        raise ValueError(f"{path} has {len(words)} words and vectors of {vectors_NE.shape}; {_NPZ}")
    vectors: Vectors = {}
    for row, word in enumerate(unicodedata.normalize("NFC", w) for w in spelled):
        if word in wanted and word not in vectors:
            if not np.abs(vectors_NE[row]).max() <= LARGEST:
                raise ValueError(f"{path}: the vector of {word!r} (row {row}) is not finite; correct or drop it")
            vectors[word] = vectors_NE[row].astype(np.float32)
    return vectors_NE.shape[1], vectors
