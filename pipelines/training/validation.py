"""Validation scores of a training, which its ranks compute together."""

import numpy as np
from numpy.typing import NDArray

from pipelines.features.split import Split
from shan_model.blocks import RowRange
from shan_model.gather import gather_objects
from shan_model.model import SHAN
from shan_model.scoring import score_matrix


def validation_scores(shan: SHAN, val: Split, rank: int, ranks: int, precision: str) -> NDArray[np.floating]:
    """Returns scores N x C on every rank. Each rank scores a part of the photos against all captions."""
    edges = np.linspace(0, len(val), ranks + 1).astype(int).tolist()
    rows = slice(edges[rank], edges[rank + 1])
    own: NDArray[np.floating] = np.empty((0, len(val.captions)), np.float32)
    if rows.stop > rows.start:
        own = score_matrix(shan, RowRange(val, rows), val.captions, precision=precision)
    return np.concatenate(gather_objects(own))
