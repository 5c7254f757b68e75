"""Words to numbers: the tokenizer and the vocabulary that is stored with every model."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

PAD, UNKNOWN, START, END = "<pad>", "<unk>", "<start>", "<end>"
_WORD = re.compile(r"\w+(?:'\w+)*")


def tokenize(text: str) -> list[str]:
    """Lower-cased runs of letters and digits; an inner apostrophe stays. Text without any gives [].

    Spellings that look the same are the same word: accents are composed (NFC), a curly apostrophe becomes straight.
    """
    return _WORD.findall(unicodedata.normalize("NFC", text.lower()).replace("\u2019", "'"))


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
