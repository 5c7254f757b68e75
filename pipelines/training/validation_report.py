"""Validation report: recall curves, score histograms and the hardest mistakes of a validation.

It is stored with the checkpoint of every epoch as `validation.json`.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.features.split import Split
from shan_model.bootstrap import interval, resample_recalls
from shan_model.metrics import Ranks, retrieval_ranks

MAX_K = 100
"""Largest K of the recall curves."""
BINS = 80
"""Bins of the score histograms."""
MISTAKES = 12
"""Mistakes of each direction."""


def validation_report(scores_NC: NDArray[np.floating], split: Split) -> dict[str, Any]:
    """Returns the validation report of the scores of N photos and C captions, as a JSON document.

    - `image_to_text`, `text_to_image`: recall at K = 1, 2, ... in percent; `random_baseline`: that of a random order in
      text-to-image retrieval.
    - `intervals`: the 95 % bootstrap interval of each of `Recalls.as_metrics`.
    - `edges`, `matched`, `unmatched`: histograms of the scores of matched and of unmatched pairs.
    - `image_to_text_mistakes`, `text_to_image_mistakes`: queries whose best wrong result scores above the best right
      one, by descending difference of the scores.
    """
    photo_of_C = split.photo_of_caption
    ranks = retrieval_ranks(scores_NC, photo_of_C)
    own_C = scores_NC[photo_of_C, np.arange(len(photo_of_C))]
    edges = np.linspace(float(scores_NC.min()), float(scores_NC.max()) + 1e-6, BINS + 1)
    pairs = sum(np.histogram(row, edges)[0] for row in scores_NC)
    matched = np.histogram(own_C, edges)[0]
    return {
        "image_to_text": _recalls(ranks.image_to_text_N, len(photo_of_C)),
        "text_to_image": _recalls(ranks.text_to_image_C, len(scores_NC)),
        "random_baseline": [100 * k / len(scores_NC) for k in range(1, min(MAX_K, len(scores_NC)) + 1)],
        "intervals": _intervals(ranks, photo_of_C),
        "edges": edges.tolist(),
        "matched": matched.tolist(),
        "unmatched": (pairs - matched).tolist(),
        "text_to_image_mistakes": _text_to_image_mistakes(scores_NC, own_C, split),
        "image_to_text_mistakes": _image_to_text_mistakes(scores_NC, own_C, split),
    }


def _recalls(ranks: NDArray[np.int64], gallery: int) -> list[float]:
    return [100 * float((ranks < k).mean()) for k in range(1, min(MAX_K, gallery) + 1)]


def _intervals(ranks: Ranks, photo_of_C: NDArray[np.integer]) -> dict[str, tuple[float, float]]:
    recalls_S6 = resample_recalls([ranks], [photo_of_C])
    resampled = [*recalls_S6.T, recalls_S6.sum(axis=1)]
    return dict(zip(ranks.recalls().as_metrics(), map(interval, resampled), strict=True))


def _text_to_image_mistakes(
    scores_NC: NDArray[np.floating], own_C: NDArray[np.floating], split: Split
) -> list[dict[str, Any]]:
    """Returns captions that retrieve another photo."""
    wrong_C, found_C = np.full(len(own_C), -np.inf), np.zeros(len(own_C), dtype=np.int64)
    for row, scores_C in enumerate(scores_NC):
        better = (scores_C > wrong_C) & (split.photo_of_caption != row)
        wrong_C[better], found_C[better] = scores_C[better], row
    return [
        {
            "caption": split.captions[c],
            "photo": split.sources[split.photo_of_caption[c]],
            "score": float(own_C[c]),
            "wrong_photo": split.sources[found_C[c]],
            "wrong_caption": split.captions_of_photos[found_C[c]][0],
            "wrong_score": float(wrong_C[c]),
        }
        for c in _hardest(wrong_C - own_C)
    ]


def _image_to_text_mistakes(
    scores_NC: NDArray[np.floating], own_C: NDArray[np.floating], split: Split
) -> list[dict[str, Any]]:
    """Returns photos that retrieve a caption of another photo."""
    best_N = np.full(len(scores_NC), -np.inf)
    np.maximum.at(best_N, split.photo_of_caption, own_C)
    wrong_N, found_N = np.empty(len(scores_NC)), np.empty(len(scores_NC), dtype=np.int64)
    for row, scores_C in enumerate(scores_NC):
        others_C = np.where(split.photo_of_caption == row, -np.inf, scores_C)
        found_N[row] = others_C.argmax()
        wrong_N[row] = others_C[found_N[row]]
    return [
        {
            "caption": split.captions_of_photos[row][0],
            "photo": split.sources[row],
            "score": float(best_N[row]),
            "wrong_photo": split.sources[split.photo_of_caption[found_N[row]]],
            "wrong_caption": split.captions[found_N[row]],
            "wrong_score": float(wrong_N[row]),
        }
        for row in _hardest(wrong_N - best_N)
    ]


def _hardest(margins: NDArray[np.floating]) -> list[int]:
    order = np.argsort(-margins, kind="stable")[:MISTAKES]
    return [int(i) for i in order if margins[i] > 0]
