"""What a search returns: hits, the explanation of a hit, and both as text and as JSON values."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from shan_model.explanation import AttendedWord, attended_words, scores_by_level
from shan_model.model import SHAN


@dataclass(frozen=True)
class Hit:
    """A ranked photo, or a ranked caption and its photo."""

    row: int
    """Row of the gallery."""
    score: float
    dataset: str
    split: str
    key: str
    """Key of the photo."""
    source: str
    """File of the photo, relative to the root of its data set."""
    photo: str
    """URI or path of the photo."""
    captions: tuple[str, ...]
    """Captions of the photo, or the ranked caption."""
    is_match: bool = False
    """Whether the query is, word for word, one of these captions."""


@dataclass(frozen=True)
class Word(AttendedWord):
    """A word with the box of its region."""

    box: tuple[float, ...] | None
    """x0 y0 x1 y1 in pixels of the upright photo; None without boxes."""


@dataclass(frozen=True)
class Explanation:
    """Why a photo and a caption have their score."""

    levels: Mapping[str, float]
    """Scores of SHAN's levels, whose sum is the score; empty for other matchers."""
    words: tuple[Word, ...]
    """Every word between the start and end tokens."""


@torch.inference_mode()
def explain_pair(shan: SHAN, regions_RD: Tensor, boxes_R4: NDArray[Any], caption: str) -> Explanation:
    """Explains the score of an encoded photo with a caption. `boxes_R4` has no rows for a photo without boxes."""
    (words_WD,) = shan.encode_captions([caption])
    words = [
        Word(**asdict(word), box=tuple(boxes_R4[word.region].tolist()) if len(boxes_R4) else None)
        for word in attended_words(shan, regions_RD, words_WD, caption)
    ]
    return Explanation(scores_by_level(shan, regions_RD, words_WD), tuple(words))


Explanations = Sequence[Sequence[Explanation]] | None
"""An explanation of each hit of each query."""


def listing(
    queries: Sequence[str], results: Sequence[Sequence[Hit]], captions: bool, explanations: Explanations = None
) -> str:
    """Returns the rankings as text; a star marks a photo whose caption is the query.

    `queries` are sentences, or names of photos if the hits are captions.
    """
    lines = []
    for q, (query, hits) in enumerate(zip(queries, results, strict=True)):
        lines.append(query if captions else f'"{query}"')
        for i, hit in enumerate(hits):
            found = f'"{hit.captions[0]}"  ({hit.source})' if captions else hit.source
            lines.append(f"  {i + 1}. {found}  {hit.score:.3f}{'  *' if hit.is_match else ''}")
            if explanations is not None:
                lines += [f"       {line}" for line in _explained(explanations[q][i])]
    return "\n".join(lines)


def results_document(
    queries: Sequence[str], results: Sequence[Sequence[Hit]], explanations: Explanations = None
) -> list[dict[str, Any]]:
    """Returns the rankings as a JSON value: each query with its hits, and their explanations if given."""
    return [
        {
            "query": query,
            "hits": [
                {"rank": i + 1, **asdict(hit)}
                | ({} if explanations is None else {"explanation": asdict(explanations[q][i])})
                for i, hit in enumerate(hits)
            ],
        }
        for q, (query, hits) in enumerate(zip(queries, results, strict=True))
    ]


def _explained(explanation: Explanation) -> list[str]:
    levels = ", ".join(f"{name} {score:.3f}" for name, score in explanation.levels.items())
    words = ", ".join(
        f"{word.word}{'' if word.known else ' (unknown)'}: region {word.region} ({word.weight:.2f})"
        for word in explanation.words
    )
    return [line for line in (levels, words) if line]
