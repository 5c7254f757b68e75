"""What a registered model computes: scores, rankings, explanations and encodings of the rows of a request.

Each task takes the request, the scorer of its captions, and batches of its images with their regions. Where an image or
caption cannot be used, `score` and `explain` return None for its row, `encode` in the columns of this image or caption,
and `rank` leaves it out.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from pipelines.models.detection import PhotoRegions
from pipelines.models.pair_scores import PairScorer
from pipelines.models.params import Params
from pipelines.models.request import Request
from shan_model.explanation import attended_words, scores_by_level

Batches = Iterable[tuple[list[int], list[PhotoRegions]]]
"""Positions of images in the request, and their regions."""
Blocks = Iterable[tuple[list[int], NDArray[np.float32]]]
"""Positions of B images in the request, and their scores with all captions, B x C."""
LEVELS = ("S_L2L", "S_G2L", "S_G2G")
OUTPUTS = {
    "score": ("score",),
    "rank": ("image_row", "caption_row", "caption", "rank", "score"),
    "explain": ("score", *LEVELS, "words"),
    "encode": ("region_vectors", "boxes", "word_vectors", "tokens"),
}
"""Columns of the result of each task; `score` returns its only column as a list."""
WORD_FIELDS = ("word", "known", "region", "weight", "box", "class")
"""Fields of each word of the column `words` of `explain`."""


def score(request: Request, scorer: PairScorer, batches: Batches, params: Params) -> list[float | None]:  # noqa: ARG001
    """Returns the score of each row."""
    scores = np.full(len(request.image_of_row), np.nan, np.float32)
    for images, photos in batches:
        rows, photo_of_row = request.rows_of(images)
        encoded = scorer.encode([photo.features_RF for photo in photos])
        scores[rows] = scorer.pairs(encoded, photo_of_row, request.caption_of_row[rows])
    return [None if row in request.problems else value for row, value in enumerate(scores.tolist())]


def rank(request: Request, scorer: PairScorer, batches: Batches, params: Params) -> pd.DataFrame:
    """Returns the ranking for each image or caption: its first row, rank, the other's first row and text, score."""
    blocks = (
        (images, scorer.block(scorer.encode([photo.features_RF for photo in photos]))) for images, photos in batches
    )
    if params.query == "image":
        hits = list(_hits_of_images(blocks, params.top_k))
    else:
        hits = list(_hits_of_captions(blocks, len(request.captions), params.top_k))
    image_rows = _first_rows(request.image_of_row, len(request.images))
    caption_rows = _first_rows(request.caption_of_row, len(request.captions))
    return pd.DataFrame(
        {
            "image_row": [image_rows[hit.image] for hit in hits],
            "caption_row": [caption_rows[hit.caption] for hit in hits],
            "caption": [request.captions[hit.caption] for hit in hits],
            "rank": [hit.rank for hit in hits],
            "score": [hit.score for hit in hits],
        }
    )


class _RankedPair(NamedTuple):
    """A pair of a ranking, by positions in the request."""

    image: int
    caption: int
    rank: int
    score: float


def _hits_of_images(blocks: Blocks, top_k: int) -> Iterator[_RankedPair]:
    """Yields the best captions for each image; those of a block of images are in memory at a time."""
    for images, scores_BC in blocks:
        for image, scores_C in zip(images, scores_BC, strict=True):
            if np.isfinite(scores_C).all():
                best = np.argsort(-scores_C, kind="stable")[: top_k or None].tolist()
                for rank, caption in enumerate(best, 1):
                    yield _RankedPair(image, caption, rank, float(scores_C[caption]))


def _hits_of_captions(blocks: Blocks, captions: int, top_k: int) -> Iterator[_RankedPair]:
    """Yields the best images for each caption; the best so far and a block of images are in memory at a time."""
    images_CK, scores_CK = np.empty((captions, 0), np.int64), np.empty((captions, 0), np.float32)
    for images, scores_BC in blocks:
        usable = np.isfinite(scores_BC).all(axis=1)
        new_CB = scores_BC[usable].T
        scores_CK = np.concatenate([scores_CK, new_CB], axis=1)
        images_CK = np.concatenate([images_CK, np.broadcast_to(np.array(images)[usable], new_CB.shape)], axis=1)
        order = np.argsort(-scores_CK, axis=1, kind="stable")[:, : top_k or None]
        scores_CK = np.take_along_axis(scores_CK, order, axis=1)
        images_CK = np.take_along_axis(images_CK, order, axis=1)
    for caption in range(captions):
        for rank, (image, score) in enumerate(
            zip(images_CK[caption].tolist(), scores_CK[caption].tolist(), strict=True), 1
        ):
            yield _RankedPair(image, caption, rank, score)


def explain(request: Request, scorer: PairScorer, batches: Batches, params: Params) -> pd.DataFrame:  # noqa: ARG001
    """Returns for each row its score, the scores of SHAN's levels, and each word with the region it attends to most."""
    results: list[list[Any]] = [[None] * 5 for _ in request.image_of_row]
    for images, photos in batches:
        rows, photo_of_row = request.rows_of(images)
        captions = request.caption_of_row[rows]
        encoded = scorer.encode([photo.features_RF for photo in photos])
        scores, last = scorer.pairs(encoded, photo_of_row, captions), -1
        for at in np.argsort(captions, kind="stable").tolist():  # so that each caption is encoded once
            row, photo, caption = int(rows[at]), int(photo_of_row[at]), int(captions[at])
            if caption != last:
                (words_WD,), last = scorer.words([caption]), caption
            levels = scores_by_level(scorer.shan, encoded[photo], words_WD)
            results[row] = [
                float(scores[at]),
                *(levels.get(name) for name in LEVELS),
                _words(scorer, request.captions[caption], photos[photo], encoded[photo], words_WD),
            ]
    return pd.DataFrame(results, columns=OUTPUTS["explain"], dtype=object)


def encode(request: Request, scorer: PairScorer, batches: Batches, params: Params) -> pd.DataFrame:
    """Returns for each row its regions in the joint space (R x D) with boxes, and its words (W x D) with tokens."""
    results: dict[str, list[Any]] = {name: [None] * len(request.image_of_row) for name in OUTPUTS["encode"]}
    for images, photos in batches:
        rows, photo_of_row = request.rows_of(images)
        encoded = [regions_RD.float().cpu().numpy() for regions_RD in scorer.encode([p.features_RF for p in photos])]
        for row, photo in zip(rows.tolist(), photo_of_row.tolist(), strict=True):
            results["region_vectors"][row], results["boxes"][row] = encoded[photo], photos[photo].boxes_R4
    rows_of_caption: dict[int, list[int]] = {}
    for row in np.flatnonzero(request.caption_of_row >= 0).tolist():
        rows_of_caption.setdefault(int(request.caption_of_row[row]), []).append(row)
    captions = sorted(rows_of_caption)
    for start in range(0, len(captions), params.batch_size):
        batch = captions[start : start + params.batch_size]
        for caption, words_WD in zip(batch, scorer.words(batch), strict=True):
            vectors, tokens = words_WD.float().cpu().numpy(), scorer.shan.text_encoder.tokens(request.captions[caption])
            for row in rows_of_caption[caption]:
                results["word_vectors"][row], results["tokens"][row] = vectors, tokens
    return pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in results.items()})


TASKS = {"score": score, "rank": rank, "explain": explain, "encode": encode}


def _first_rows(item_of_row: NDArray[np.int64], count: int) -> list[int]:
    """Returns the first row of each of `count` items."""
    first = np.full(count + 1, -1)
    first[item_of_row[::-1]] = np.arange(len(item_of_row))[::-1]
    return [int(row) for row in first[:count]]


def _words(
    scorer: PairScorer, caption: str, photo: PhotoRegions, regions_RD: Tensor, words_WD: Tensor
) -> list[dict[str, Any]]:
    """Returns the WORD_FIELDS of each word of a caption."""
    return [
        asdict(word)
        | {
            "box": None if photo.boxes_R4 is None else photo.boxes_R4[word.region].tolist(),
            "class": None if photo.classes is None else photo.classes[word.region],
        }
        for word in attended_words(scorer.shan, regions_RD, words_WD, caption)
    ]
