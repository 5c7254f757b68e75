"""Reads pretrained word vectors from a file, for the words of a vocabulary, and computes their coverage.

Three formats are supported:

- GloVe text: each line is a word and its E numbers, separated by single spaces.
- word2vec and fastText text: the same, after a first line with two integers, the number of words and E.
- `.npz`: an array `words` of N unicode strings and an array `vectors` N x E of floats (numpy.savez, no pickles).

Text files are read line by line and only the words of the vocabulary are kept, so they may be larger than memory; an
.npz file must fit in memory. If a word occurs twice, the first occurrence counts. Words are compared in NFC.

Shapes: N words of the file, V words of the vocabulary, E width of a vector.
"""

import codecs
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from shan_model.vocabulary import Vocabulary, tokenize

MAX_LINE_BYTES = 1 << 20
"""Longest accepted line in bytes; it keeps a file without line breaks from being read into memory at once."""

MAX_FLOAT32 = float(np.finfo(np.float32).max)

_NPZ = "save it as numpy.savez(path, words=<N unicode strings>, vectors=<N x E floats>)"

Vectors = dict[str, NDArray[np.float32]]


class WordVectorsError(ValueError):
    """A file of word vectors cannot be read. The message names the file, the line and the fix."""


@dataclass(frozen=True)
class Coverage:
    """Fractions of the vocabulary's words (without special tokens) and of the captions' tokens that have a vector."""

    words: float
    tokens: float

    def __str__(self) -> str:
        return f"word vectors for {self.words:.1%} of the vocabulary, {self.tokens:.1%} of the captions' words"


@dataclass(frozen=True)
class WordVectors:
    """The vectors of a vocabulary's words in a file."""

    vocabulary: Vocabulary
    vectors_VE: NDArray[np.float32]
    """One row per word; zeros for special tokens and for words without a vector (not stated in the paper)."""
    found: frozenset[str]
    """Words of the vocabulary that occur in the file."""

    def coverage(self, captions: Iterable[str]) -> Coverage:
        """Returns the coverage of the vocabulary and of these captions; 0 if there is nothing to count."""
        hits = [word in self.found for caption in captions for word in tokenize(caption)]
        words = self.vocabulary.num_words
        return Coverage(len(self.found) / max(1, words), sum(hits) / max(1, len(hits)))


def read_word_vectors(path: Path, vocabulary: Vocabulary) -> WordVectors:
    """Reads the vectors of the vocabulary's words; raises WordVectorsError naming the file, the line and the fix."""
    wanted = frozenset(vocabulary.words[4:])
    try:
        width, vectors = (_read_npz if path.suffix == ".npz" else _read_text)(path, wanted)
    except OSError as error:
        raise WordVectorsError(
            f"word vector file {path} cannot be read ({error.strerror or error}); give a GloVe or word2vec text file, "
            "or an .npz file"
        ) from error
    if wanted and not vectors:
        raise WordVectorsError(
            f"{path} has none of the vocabulary's {len(wanted)} words, such as {vocabulary.words[4]!r}; give vectors "
            "of lower-case words in the language of the captions"
        )
    vectors_VE = np.zeros((len(vocabulary), width), np.float32)
    for row, word in enumerate(vocabulary.words):
        if word in vectors:
            vectors_VE[row] = vectors[word]
    return WordVectors(vocabulary, vectors_VE, frozenset(vectors))


def _read_text(path: Path, wanted: Collection[str]) -> tuple[int, Vectors]:
    vectors: Vectors = {}
    with path.open("rb") as file:
        if file.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
            file.seek(0)
        lines = _lines(file, path)
        first = next(lines, (0, b""))
        stated = _header(first[1])
        if stated:
            first = next(lines, (1, b""))
        width = stated[1] if stated else first[1].count(b" ")
        if width < 1 or not first[1]:
            raise WordVectorsError(f"{path} has no word vectors; each line must be a word and its numbers")
        for number, line in chain([first], lines):
            word = _word(line, width, f"{path}, line {number}")
            if word in wanted and word not in vectors:
                vectors[word] = _numbers(line, width, f"{path}, line {number}")
    if stated and number != stated[0] + 1:
        raise WordVectorsError(
            f"{path}, line 1 states {stated[0]} words, but {number - 1} lines follow; the file is truncated, "
            "download it again"
        )
    return width, vectors


def _lines(file: BinaryIO, path: Path) -> Iterator[tuple[int, bytes]]:
    """Yields line numbers from 1 and lines, without the trailing space or carriage return that some tools write."""
    for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES), b""), 1):
        if len(line) == MAX_LINE_BYTES:
            raise WordVectorsError(
                f"{path}, line {number} is longer than {MAX_LINE_BYTES} bytes; decompress the file, "
                "or save word2vec's binary format as text"
            )
        yield number, line.rstrip(b" \r\n")


def _header(line: bytes) -> tuple[int, int] | None:
    parts = line.split(b" ")
    return (int(parts[0]), int(parts[1])) if len(parts) == 2 and all(part.isdigit() for part in parts) else None


def _word(line: bytes, width: int, line_name: str) -> str:
    """Returns the word of a line; raises WordVectorsError if the count of numbers is wrong.

    Some words of GloVe contain spaces. Bytes that are not UTF-8 become U+FFFD, which occurs in no word.
    """
    spaces = line.count(b" ")
    word = line[: line.index(b" ")] if spaces == width else line.rsplit(b" ", width)[0]
    if spaces < width or (b" " in word and all(_is_number(part) for part in word.split(b" ")[1:])):
        raise WordVectorsError(
            f"{line_name} has {spaces} numbers, expected {width}; correct or delete it (decompress a compressed file, "
            "and save word2vec's binary format as text)"
        )
    return unicodedata.normalize("NFC", word.decode("utf-8", errors="replace"))


def _is_number(part: bytes) -> bool:
    try:
        float(part)
    except ValueError:
        return False
    return True


def _numbers(line: bytes, width: int, line_name: str) -> NDArray[np.float32]:
    parts = line.rsplit(b" ", width)[1:]
    bad = next((part for part in parts if not (_is_number(part) and abs(float(part)) <= MAX_FLOAT32)), None)
    if bad is not None:
        shown = bad[:20].decode("utf-8", errors="replace")
        raise WordVectorsError(f"{line_name}: {shown!r} is not a finite number; correct or delete the line")
    return np.array([float(part) for part in parts], np.float32)


def _read_npz(path: Path, wanted: Collection[str]) -> tuple[int, Vectors]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            words, vectors_NE = arrays["words"], arrays["vectors"]
            spelled = words.tolist()
    except Exception as error:  # zipfile and numpy raise many types for a corrupt file
        raise WordVectorsError(f"{path} cannot be read ({error}); {_NPZ}") from error
    if words.dtype.kind != "U" or vectors_NE.dtype.kind != "f" or words.ndim != 1 or vectors_NE.ndim != 2:
        raise WordVectorsError(
            f"{path}: words are {words.dtype} {words.shape}, vectors {vectors_NE.dtype} {vectors_NE.shape}; {_NPZ}"
        )
    if len(words) != len(vectors_NE) or not vectors_NE.size:
        raise WordVectorsError(f"{path} has {len(words)} words and vectors of shape {vectors_NE.shape}; {_NPZ}")
    vectors: Vectors = {}
    for row, word in enumerate(unicodedata.normalize("NFC", w) for w in spelled):
        if word in wanted and word not in vectors:
            if not np.abs(vectors_NE[row]).max() <= MAX_FLOAT32:
                raise WordVectorsError(
                    f"{path}: the vector of {word!r} (row {row}) is not finite; correct or remove it"
                )
            vectors[word] = vectors_NE[row].astype(np.float32)
    return vectors_NE.shape[1], vectors
