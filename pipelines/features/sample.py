"""Random photos of a feature set: the records that a report counts, and the photos that it shows."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from infra.errors import UserError
from infra.source_tree import program
from pipelines.datasets.manifest import SPLITS
from pipelines.features.feature_set import FeatureSet
from pipelines.features.layout import tar_name
from pipelines.features.npy import load_npy
from pipelines.features.receipt import Written

SEED = 0
"""Fixed, so that the same feature set gives the same report."""

T = TypeVar("T")
R = TypeVar("R")
_Photo = tuple[str, str, Written]
"""Split, tar and the photo's entry in the receipt."""


@dataclass(frozen=True)
class Record:
    """One photo's `.json` member and, where asked for, its boxes."""

    split: str
    key: str
    meta: dict[str, Any]
    boxes_R4: NDArray[np.float32]


def sample_records(features: FeatureSet, count: int) -> list[Record]:
    """Returns at most `count` photos of all splits, without their boxes, in the feature set's order."""
    photos = _all_photos(features)
    rows = np.random.default_rng(SEED).permutation(len(photos))[:count]
    return _read(features, [photos[row] for row in sorted(rows.tolist())], boxes=False)


def sample_photos(features: FeatureSet, count: int) -> list[Record]:
    """Returns `count` photos with their boxes, taken from the splits as evenly as their sizes allow."""
    rng = np.random.default_rng(SEED)
    photos = _all_photos(features)
    by_split = [[photo for photo in photos if photo[0] == split] for split in SPLITS]
    drawn = [[group[row] for row in rng.permutation(len(group))[:count].tolist()] for group in by_split]
    in_turns = [group[turn] for turn in range(count) for group in drawn if turn < len(group)]
    return _read(features, sorted(in_turns[:count], key=lambda photo: SPLITS.index(photo[0])), boxes=True)


def in_parallel(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Returns the results of `work` in order; 16 threads hide the latency of an object store."""
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(work, items))


def _all_photos(features: FeatureSet) -> list[_Photo]:
    return [(r.split, tar_name(r.shard), photo) for r in features.receipts for photo in r.written]


def _read(features: FeatureSet, photos: Sequence[_Photo], boxes: bool) -> list[Record]:
    def read(record: _Photo) -> Record:
        split, tar, photo = record
        no_boxes = np.empty((0, 4), np.float32)
        try:
            meta = json.loads(features.store.read(tar, *photo.offsets[2]))
            boxes_R4 = load_npy(features.store.read(tar, *photo.offsets[1])) if boxes else no_boxes
        except (FileNotFoundError, ValueError) as error:
            raise UserError(
                f"{features.uri}/{tar}: {photo.key} cannot be read; run `{program('features')} verify` to list every "
                "corrupt object"
            ) from error
        return Record(split, photo.key, meta, boxes_R4)

    return in_parallel(read, photos)
