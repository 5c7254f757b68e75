"""Random photos of a feature set: those that a report counts, and those that it shows."""

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
from pipelines.features.stored_receipts import StoredReceipts

SEED = 0
"""Fixed, so that the same feature set gives the same report."""

T = TypeVar("T")
R = TypeVar("R")
_Photo = tuple[str, str, Written]
"""Split, tar and the photo's entry in the receipt."""


@dataclass(frozen=True)
class SampledPhoto:
    """One photo's `.json` member and, where asked for, its boxes."""

    split: str
    key: str
    meta: dict[str, Any]
    boxes_R4: NDArray[np.float32]


def sample_uniformly(features: FeatureSet, count: int) -> list[SampledPhoto]:
    """Returns at most `count` photos of all splits, without their boxes, in the feature set's order.

    Raises UserError naming a photo that cannot be read.
    """
    rows = np.random.default_rng(SEED).permutation(features.index.photos_written)[:count]
    return _read(features, _photos(features, np.sort(rows)), boxes=False)


def sample_splits(features: FeatureSet, count: int) -> list[SampledPhoto]:
    """Returns `count` photos with their boxes, taken from the splits as evenly as their sizes allow.

    Raises UserError naming a photo that cannot be read.
    """
    rng = np.random.default_rng(SEED)
    shards = features.index.shards
    split_of_photo = np.repeat([SPLITS.index(shard.split) for shard in shards], [shard.written for shard in shards])
    by_split = [np.flatnonzero(split_of_photo == split) for split in range(len(SPLITS))]
    drawn = [group[rng.permutation(len(group))[:count]].tolist() for group in by_split]
    in_turns = [group[turn] for turn in range(count) for group in drawn if turn < len(group)]
    rows = sorted(in_turns[:count], key=lambda row: split_of_photo[row])
    return _read(features, _photos(features, np.array(rows, np.int64)), boxes=True)


def in_parallel(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Returns the results of `work` in order; 16 threads hide the latency of an object store."""
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(work, items))


def _photos(features: FeatureSet, rows: NDArray[np.int64]) -> list[_Photo]:
    """Returns written photos by their numbers in the feature set. Only the receipts of these photos are read."""
    shards = features.index.shards
    starts = np.cumsum([0, *(shard.written for shard in shards)])
    shard_of_row = np.searchsorted(starts, rows, side="right") - 1
    needed = np.unique(shard_of_row).tolist()
    receipts = StoredReceipts(features.store, tuple(shards[n] for n in needed))
    found = {}
    for n, receipt in zip(needed, receipts, strict=True):  # one after the other: a receipt has hundreds of photos
        for row in rows[shard_of_row == n].tolist():
            found[row] = (receipt.split, tar_name(receipt.shard), receipt.written[row - starts[n]])
    return [found[row] for row in rows.tolist()]


def _read(features: FeatureSet, photos: Sequence[_Photo], boxes: bool) -> list[SampledPhoto]:
    def read(stored: _Photo) -> SampledPhoto:
        split, tar, photo = stored
        no_boxes = np.empty((0, 4), np.float32)
        try:
            meta = json.loads(features.store.read(tar, *photo.offsets[2]))
            boxes_R4 = load_npy(features.store.read(tar, *photo.offsets[1])) if boxes else no_boxes
        except (FileNotFoundError, ValueError, RecursionError) as error:
            raise UserError(
                f"{features.uri}/{tar}: {photo.key} cannot be read; run `{program('features')} verify` to list every "
                "corrupt object"
            ) from error
        return SampledPhoto(split, photo.key, meta, boxes_R4)

    return in_parallel(read, photos)
