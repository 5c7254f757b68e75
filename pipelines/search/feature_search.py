"""Exhaustive search over a split of a feature set: every photo is read, encoded and scored for each call."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.datasets.photo_sources import photo_uri
from pipelines.features.feature_set import FeatureSet
from pipelines.features.split import Split
from pipelines.search.hits import Explanation, Hit, explain_pair
from pipelines.search.index import require_regions, require_sentences
from shan_model.model import SHAN
from shan_model.scoring import score_matrix

LARGE = 2000
"""Photos from which an index is worth building."""


class FeatureSearch:
    """Ranks the photos of a split, or its captions, as `SearchIndex` does for an index."""

    def __init__(self, shan: SHAN, features: FeatureSet, split: Split) -> None:
        self._shan, self._features, self._split = shan, features, split

    def search_photos(self, sentences: Sequence[str], k: int) -> list[list[Hit]]:
        """Returns the best k photos for each sentence. Raises UserError for an empty sentence."""
        require_sentences(sentences)
        scores_NQ = score_matrix(self._shan, self._split, sentences)
        return [
            [
                self._hit(row, row, float(scores_NQ[row, q]), self._split.captions_of_photos[row], sentence)
                for row in _best(scores_NQ[:, q], k)
            ]
            for q, sentence in enumerate(sentences)
        ]

    def search_captions(self, photos: Sequence[NDArray[Any]], k: int) -> list[list[Hit]]:
        """Returns the best k captions of the split for each photo, given by its region features R x F.

        Raises UserError for features that are of no use to the model.
        """
        require_regions(photos, self._shan.config.region_dim)
        captions, photo_of_caption = self._split.captions, self._split.photo_of_caption.tolist()
        found = []
        for regions_RF in photos:
            (scores_C,) = score_matrix(self._shan, regions_RF[None], captions)
            found.append(
                [self._hit(c, photo_of_caption[c], float(scores_C[c]), (captions[c],)) for c in _best(scores_C, k)]
            )
        return found

    @torch.inference_mode()
    def explain(self, sentence: str, hit: Hit) -> Explanation:
        """Explains why a photo that `search_photos` found has its score."""
        regions_BRF = torch.from_numpy(np.array(self._split[[hit.row]])).to(self._shan.device)
        (regions_RD,) = self._shan.encode_photos(regions_BRF)
        return explain_pair(self._shan, regions_RD, self._split.boxes(hit.row), sentence)

    def _hit(self, row: int, photo: int, score: float, captions: tuple[str, ...], query: str | None = None) -> Hit:
        split, index = self._split, self._features.index
        source = split.sources[photo]
        located = (index.dataset, split.name, split.keys[photo], source, photo_uri(index.photo_root, source))
        return Hit(row, score, *located, captions, query in captions)


def _best(scores: NDArray[np.floating], k: int) -> list[int]:
    """Returns the positions of the k highest scores, best first; of equal ones, the first."""
    found: list[int] = np.argsort(-scores, kind="stable")[:k].tolist()
    return found
