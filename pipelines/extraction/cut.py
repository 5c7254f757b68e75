"""The first operator of an extraction: cuts a shard into parts, and finds the regions that are stored already."""

import json
from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np

from infra.errors import UserError
from infra.storage.base import Store
from pipelines.datasets.manifest import Photo
from pipelines.extraction.operators import PartRow, StoredRegions, part_row
from pipelines.extraction.reconcile import ShardTask
from pipelines.extraction.worker_errors import keep_error_message
from pipelines.features.layout import tar_name
from pipelines.features.manifests import StoredManifest
from pipelines.features.receipt import read_receipt
from pipelines.features.shard_plan import digest_of, plan_parts
from pipelines.features.shard_reader import verify_shard_pieces

ShardRow = dict[str, Any]
"""A row of Ray Data: one shard, from which `Cut` makes the rows of its parts."""


def task_row(task: ShardTask) -> ShardRow:
    """Returns a shard as a small row, with the numbers of its photos in the manifest."""
    numbers = task.photos.numbers
    starts = np.flatnonzero(np.diff(numbers, prepend=-2) != 1)
    spans = [(int(span[0]), int(span[-1]) + 1) for span in np.split(numbers, starts[1:])]
    stored = [(name, len(list(run))) for name, run in groupby(task.stored)]
    return {
        "shard": task.name,
        "plan_digest": task.plan_digest,
        "photos": json.dumps(spans),
        "stored": json.dumps(stored),
        "done": json.dumps(sorted(task.done)),
    }


class Cut:
    """Yields a row for each part of a shard that is not complete yet."""

    def __init__(self, store: Store, manifest: StoredManifest, photos_per_part: int) -> None:
        self._store, self._manifest, self._photos_per_part = store, manifest, photos_per_part

    @keep_error_message
    def __call__(self, row: ShardRow) -> list[PartRow]:
        """Maps the row of `task_row` to the rows of parts. Raises UserError if regions to be copied are corrupt."""
        photos = self._manifest.rows(json.loads(row["photos"]))
        if digest_of(photos) != row["plan_digest"]:
            raise UserError(f"{self._store.uri}/{self._manifest.name}: another job has replaced it; run again")
        stored = [name for name, count in json.loads(row["stored"]) for _ in range(count)] or [""] * len(photos)
        done = set(json.loads(row["done"]))
        parts = plan_parts(row["shard"], photos, self._photos_per_part)
        open_parts = [part for number, part in enumerate(parts) if number not in done]
        wanted = {photo.key for part in open_parts for photo in part.photos}
        found = self._find([(p, name) for p, name in zip(photos, stored, strict=True) if name and p.key in wanted])
        return [part_row(row["shard"], part, found) for part in open_parts]

    def _find(self, stored: Sequence[tuple[Photo, str]]) -> dict[str, StoredRegions]:
        """Returns the place of photos in the shards that have them, by key, after reading these shards once."""
        by_shard: dict[str, set[str]] = defaultdict(set)
        for photo, shard in stored:
            by_shard[shard].add(photo.key)
        found: dict[str, StoredRegions] = {}
        for shard, keys in by_shard.items():
            receipt = read_receipt(self._store, shard)
            if receipt is None:
                raise UserError(f"{self._store.uri}/{shard}: another job has deleted or replaced it; run again")
            verify_shard_pieces(self._store, tar_name(shard), receipt.sha256)
            found |= {p.key: StoredRegions(tar_name(shard), p.offsets) for p in receipt.written if p.key in keys}
        return found
