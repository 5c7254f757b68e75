"""The tokenizer, and the vocabulary that is stored with every model and maps words to ids."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

PAD, UNKNOWN, START, END = "<pad>", "<unk>", "<start>", "<end>"

_INVISIBLE = "\u00ad\u200c\u200d\u200e\u200f\u2060\ufeff" + "".join(map(chr, range(0xFE00, 0xFE10)))
_WIDTHS_AND_LIGATURES = [*map(chr, range(0xFB00, 0xFB07)), *map(chr, range(0xFF01, 0xFFEF))]
_ONE_SPELLING = str.maketrans(
    {
        **dict.fromkeys(_INVISIBLE),
        **{c: unicodedata.normalize("NFKC", c).lower() for c in _WIDTHS_AND_LIGATURES},
        **dict.fromkeys("\u2019\u02bc", "'"),
    }
)
_MARK = "\u0300"  # replaces every combining mark, for which `re` has no character class
_HAN_KANA = "\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_CHARACTERS = rf"(?:[^\W_{_HAN_KANA}]{_MARK}*)+"
_IN_A_NUMBER = r"(?<=\d)(?:\.(?=\d)|,(?=\d{3}(?!\d)))"
_ASCII_WORD = re.compile("[A-Za-z0-9]")
_WORD = re.compile(rf"[{_HAN_KANA}]{_MARK}*|{_CHARACTERS}(?:(?:'|{_IN_A_NUMBER}){_CHARACTERS})*")


def tokenize(text: str) -> list[str]:
    """Splits a text into lower-case words: runs of alphabetic characters (with combining marks) and digits.

    Returns [] for a text without any, such as emoji. Apostrophes within a word are kept, as are the decimal point of
    3.5 and the commas of 1,000. Chinese and Japanese are written without spaces, so each of their characters is a
    word. Spellings that look the same give the same word: accents are composed (NFC), full-width characters and
    ligatures become ordinary ones, curly apostrophes become straight, invisible characters are removed, and the
    Turkish dotted capital I becomes i.
    """
    text = unicodedata.normalize("NFC", text.lower().translate(_ONE_SPELLING)).replace("i\u0307", "i")
    if text.isascii():
        return _WORD.findall(text)
    marked = "".join(_MARK if unicodedata.category(c) in ("Mn", "Mc") else c for c in text)
    return [text[found.start() : found.end()] for found in _WORD.finditer(marked)]


def has_word(text: str) -> bool:
    """Returns whether `tokenize` finds a word in a text; without splitting it where that is easy to see."""
    return _ASCII_WORD.search(text) is not None or bool(tokenize(text))


@dataclass(frozen=True)
class Vocabulary:
    """An ordered list of distinct words; the index of a word is its id. The first four are the special tokens."""

    words: tuple[str, ...]
    _ids: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.words[:4] != (PAD, UNKNOWN, START, END):
            raise ValueError(
                f"the vocabulary starts with {self.words[:4]}; it must start with {PAD} {UNKNOWN} {START} {END}"
            )
        ids = {word: i for i, word in enumerate(self.words)}
        if len(ids) != len(self.words):
            raise ValueError("the vocabulary repeats a word; each word must occur once")
        object.__setattr__(self, "_ids", ids)

    @classmethod
    def build(cls, captions: Iterable[str], min_count: int = 1) -> "Vocabulary":
        """Returns the words that occur at least `min_count` times, by frequency, then alphabetically."""
        counts = Counter(word for caption in captions for word in tokenize(caption))
        kept = sorted((w for w, n in counts.items() if n >= min_count), key=lambda w: (-counts[w], w))
        return cls((PAD, UNKNOWN, START, END, *kept))

    @property
    def num_words(self) -> int:
        """The number of words without the special tokens."""
        return len(self.words) - 4

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: str) -> bool:
        return word in self._ids

    def encode(self, caption: str) -> list[int]:
        """Returns the ids of `<start> words <end>`, at least two; unknown words become `<unk>`."""
        unknown = self._ids[UNKNOWN]
        return [self._ids[START], *(self._ids.get(w, unknown) for w in tokenize(caption)), self._ids[END]]
