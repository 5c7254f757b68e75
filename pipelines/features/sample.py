"""Photos of a feature set drawn by lot: the records that a report counts over, and the photos that it shows."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.errors import UserError
from pipelines.datasets.manifest import SPLITS
from pipelines.features.feature_set import FeatureSet
from pipelines.features.shards import Written, load_npy, tar_name

SEED = 0
"""The same feature set gives the same report."""

Place = tuple[str, str, Written]
"""Split, tar and photo."""


@dataclass(frozen=True)
class Record:
    """One photo's stored description and, where asked for, its boxes."""

    split: str
    key: str
    meta: dict[str, Any]
    boxes_R4: NDArray[np.float32]


def sample_records(features: FeatureSet, most: int) -> list[Record]:
    """At most `most` photos of all splits, without their boxes, in the feature set's order."""
    places = _places(features)
    rows = np.random.default_rng(SEED).permutation(len(places))[:most]
    return _read(features, [places[row] for row in sorted(rows.tolist())], boxes=False)


def chosen_photos(features: FeatureSet, count: int) -> list[Record]:
    """`count` photos with their boxes, as evenly from the splits as those allow."""
    rng = np.random.default_rng(SEED)
    places = _places(features)
    piles = [[place for place in places if place[0] == split] for split in SPLITS]
    drawn = [[pile[row] for row in rng.permutation(len(pile))[:count].tolist()] for pile in piles]
    rounds = [pile[turn] for turn in range(count) for pile in drawn if turn < len(pile)]
    return _read(features, sorted(rounds[:count], key=lambda place: SPLITS.index(place[0])), boxes=True)


def _places(features: FeatureSet) -> list[Place]:
    return [(r.split, tar_name(r.shard), photo) for r in features.receipts for photo in r.written]


def _read(features: FeatureSet, places: Sequence[Place], boxes: bool) -> list[Record]:
    """Reads by offset, with many threads: an object store answers slowly but to many."""

    def read(place: Place) -> Record:
        split, tar, photo = place
        no_boxes = np.empty((0, 4), np.float32)
        try:
            meta = json.loads(features.store.read(tar, *photo.offsets[2]))
            boxes_R4 = load_npy(features.store.read(tar, *photo.offsets[1])) if boxes else no_boxes
        except (FileNotFoundError, ValueError) as error:
            raise UserError(
                f"{features.uri}/{tar}: {photo.key} cannot be read; `python -m jobs.features verify` tells all that is "
                "damaged"
            ) from error
        return Record(split, photo.key, meta, boxes_R4)

    return in_parallel(read, places)


def in_parallel(work: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """The results in order, by 16 threads."""
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(work, items))
