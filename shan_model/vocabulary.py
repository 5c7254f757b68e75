"""Words to numbers: the tokenizer and the vocabulary that is stored with every model."""

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
_MARK = "\u0300"  # stands for every combining mark, which `re` has no class for
_HAN_KANA = "\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_LETTERS = rf"(?:[^\W_{_HAN_KANA}]{_MARK}*)+"
_IN_A_NUMBER = r"(?<=\d)(?:\.(?=\d)|,(?=\d{3}(?!\d)))"
_WORD = re.compile(rf"[{_HAN_KANA}]{_MARK}*|{_LETTERS}(?:(?:'|{_IN_A_NUMBER}){_LETTERS})*")


def tokenize(text: str) -> list[str]:
    """Lower-cased runs of letters (with their marks) and digits. Text without any, as emoji alone, gives [].

    An inner apostrophe stays, and so do the point of 3.5 and the commas of 1,000. Chinese and Japanese are written
    without spaces: every character of theirs is a word. Spellings that look the same are the same word: accents are
    composed (NFC), full-width letters and ligatures become plain ones, a curly apostrophe becomes straight, invisible
    characters go, and Turkish I with a dot becomes i.
    """
    text = unicodedata.normalize("NFC", text.lower().translate(_ONE_SPELLING)).replace("i\u0307", "i")
    if text.isascii():
        return _WORD.findall(text)
    marked = "".join(_MARK if unicodedata.category(c) in ("Mn", "Mc") else c for c in text)
    return [text[found.start() : found.end()] for found in _WORD.finditer(marked)]


@dataclass(frozen=True)
class Vocabulary:
    """An ordered list of words; a word's id is its place. The first four are the special tokens."""

    words: tuple[str, ...]
    _ids: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.words[:4] != (PAD, UNKNOWN, START, END):
            raise ValueError(f"a vocabulary starts with {PAD} {UNKNOWN} {START} {END}, not with {self.words[:4]}")
        ids = {word: i for i, word in enumerate(self.words)}
        if len(ids) != len(self.words):
            raise ValueError("a vocabulary holds every word once; this one repeats a word")
        object.__setattr__(self, "_ids", ids)

    @classmethod
    def build(cls, captions: Iterable[str], min_count: int = 1) -> "Vocabulary":
        """Every word seen at least `min_count` times in the captions, most frequent first, ties in order of letters."""
        counts = Counter(word for caption in captions for word in tokenize(caption))
        kept = sorted((w for w, n in counts.items() if n >= min_count), key=lambda w: (-counts[w], w))
        return cls((PAD, UNKNOWN, START, END, *kept))

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, caption: str) -> list[int]:
        """Ids of `<start> words <end>`; a word never seen becomes `<unk>`. Never empty, so W >= 2."""
        unknown = self._ids[UNKNOWN]
        return [self._ids[START], *(self._ids.get(w, unknown) for w in tokenize(caption)), self._ids[END]]
