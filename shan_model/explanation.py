"""Why a photo and a caption have their score: the scores of SHAN's levels, and the region of each word.

Shapes: R regions, W tokens of the caption, D joint width.
"""

from dataclasses import dataclass

from torch import Tensor

from shan_model.alignment import Alignment
from shan_model.model import SHAN


@dataclass(frozen=True)
class AttendedWord:
    """A word of a caption, and the region that it attends to most."""

    word: str
    known: bool
    """Whether it is in the vocabulary of the model, which does not distinguish other words."""
    region: int
    weight: float
    """Attention weight, of 1 over all regions."""


def attended_words(shan: SHAN, regions_RD: Tensor, words_WD: Tensor, caption: str) -> list[AttendedWord]:
    """Returns each word between the start and end tokens of a caption, whose encoding is `words_WD`."""
    attention_RW = shan.alignment.word_attention(regions_RD[None], words_WD)[0]
    weights, regions = (found.tolist() for found in attention_RW.max(dim=0))
    tokens, known = shan.text_encoder.tokens(caption), shan.text_encoder.known(caption)
    return [AttendedWord(*found) for found in zip(tokens, known, regions, weights, strict=True)][1:-1]


def scores_by_level(shan: SHAN, regions_RD: Tensor, words_WD: Tensor) -> dict[str, float]:
    """Returns the scores of SHAN's enabled levels, whose sum is the score; empty for other matchers."""
    if not isinstance(shan.alignment, Alignment):
        return {}
    return {name: float(score) for name, score in shan.alignment.level_scores(regions_RD[None], words_WD).items()}
