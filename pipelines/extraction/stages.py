"""The stages of an extraction. Each maps one row (a shard) to one row, and runs without Ray as well.

Rows hold only strings, bytes and flags, whose memory Ray Data accounts for exactly.

| after  | columns |
|---|---|
| task   | `shard`: name; `photos`: JSON list of key, source, captions, version_token, `reuse` (StoredRegions or null) |
| fetch  | + `pixels`: RGB bytes of all photos; each photo gains width, height, shape and sha256, or a `reason` |
|        | + `isolate`: whether a process died at this shard (`attempts`) |
| detect | - `pixels`, + `regions` (float16) and `boxes` (float32); each photo gains `found`: classes, confidences |
|        | or a `reason` (module `detect`) |
| commit | `shard`, and its `receipt` as JSON |

A photo with `reuse` passes through fetch and detect unchanged; commit copies its regions.
"""

import json
from dataclasses import asdict
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.process_deadline import process_deadline
from infra.storage.base import Store
from pipelines.datasets.decode import PhotoError, decode_photo
from pipelines.datasets.photo_sources import photo_uri, read_photo
from pipelines.extraction.attempts import Attempts, recorded_deaths
from pipelines.extraction.reconcile import ShardTask
from pipelines.extraction.worker_errors import keep_error_message
from pipelines.features.layout import attempts_name, shard_name
from pipelines.features.npy import load_npy
from pipelines.features.receipt import Receipt, Rejection
from pipelines.features.shard_plan import plan_digest
from pipelines.features.shard_reader import StoredShards, read_sample_member
from pipelines.features.shards import OtherPhotosError, Sample, commit_shard

Row = dict[str, Any]
"""A row of Ray Data: one shard."""
_Photo = dict[str, Any]
"""One element of a row's `photos`."""
DECODE_DEADLINE_S = 600.0
"""Time in which a photo must be decoded."""


def task_row(task: ShardTask) -> Row:
    """Returns the first row of a shard."""
    photos = [
        {
            "key": photo.key,
            "source": photo.source,
            "captions": photo.captions,
            "version_token": photo.version_token,
            "reuse": asdict(task.reuse[photo.key]) if photo.key in task.reuse else None,
        }
        for photo in task.photos
    ]
    return {"shard": task.name, "photos": json.dumps(photos)}


class Fetch:
    """Reads and decodes every photo of a shard. A photo that cannot be used gets a rejection reason."""

    def __init__(self, root: str, store: Store) -> None:
        self._root, self._store = root, store

    @keep_error_message
    def __call__(self, row: Row) -> Row:
        """Maps a task row to a fetched row."""
        photos, pixels = json.loads(row["photos"]), []
        is_recorded = bool(recorded_deaths(self._store, row["shard"]))
        with Attempts(self._store, row["shard"], "decode", is_recorded) as attempts:
            for photo in photos:
                if photo["reuse"]:
                    continue
                try:
                    data = read_photo(photo_uri(self._root, photo["source"]))
                    photo["sha256"] = sha256(data).hexdigest()
                    with attempts.photo(photo["key"]), process_deadline(DECODE_DEADLINE_S):
                        decoded = decode_photo(data)
                except PhotoError as error:
                    photo["reason"] = str(error)
                else:
                    photo["width"], photo["height"] = decoded.width, decoded.height
                    photo["shape"] = decoded.pixels.shape
                    pixels.append(decoded.pixels.tobytes())
        return {
            "shard": row["shard"],
            "photos": json.dumps(photos),
            "isolate": attempts.isolate,
            "pixels": b"".join(pixels),
        }


class Commit:
    """Builds and writes the shard, then its receipt."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @keep_error_message
    def __call__(self, row: Row) -> Row:
        """Maps a detected row to the shard's receipt, which accounts for every photo as written or rejected."""
        photos = json.loads(row["photos"])
        rows = sum(len(photo["found"]["classes"]) for photo in photos if "found" in photo)
        regions = _MatrixReader(row.get("regions", b""), np.float16, rows)
        boxes = _MatrixReader(row.get("boxes", b""), np.float32, rows)
        samples, rejected = [], []
        old = StoredShards(self._store, {p["reuse"]["tar"]: p["reuse"]["sha256"] for p in photos if p["reuse"]})
        for photo in photos:
            if "reason" in photo:
                sha = photo.get("sha256", "")
                rejected.append(Rejection(photo["key"], photo["source"], photo["reason"], photo["version_token"], sha))
            elif photo["reuse"]:
                samples.append(self._reused(photo, old))
            else:
                meta = {name: photo[name] for name in ("source", "captions", "width", "height", "sha256")}
                meta |= photo["found"]
                count = len(meta["classes"])
                samples.append(
                    Sample(photo["key"], regions.take(count), boxes.take(count), meta, photo["version_token"])
                )
        receipt = self._commit(row["shard"], photos, samples, rejected)
        if {entry.key for entry in receipt.planned} != {photo["key"] for photo in photos}:
            raise RuntimeError(f"{self._store.uri}/{receipt.shard}: its receipt does not account for every photo")
        if row.get("isolate"):
            self._store.delete(attempts_name(row["shard"]))
        return {"shard": row["shard"], "receipt": receipt.to_json()}

    def _commit(self, shard: str, photos: list[_Photo], samples: list[Sample], rejected: list[Rejection]) -> Receipt:
        """Commits under the planned name, or, if it is taken by other photos, under a name of the photos' bytes."""
        digest = plan_digest([(photo["key"], photo["source"], photo["captions"]) for photo in photos])
        try:
            return commit_shard(self._store, shard, samples, rejected, digest)
        except OtherPhotosError:
            contents = {row.key: row.sha256 for row in rejected} | {s.key: s.meta["sha256"] for s in samples}
            _, split, number, _ = shard.split("-")
            name = shard_name(split, int(number), digest, contents)
            return commit_shard(self._store, name, samples, rejected, digest)

    def _reused(self, photo: _Photo, old: StoredShards) -> Sample:
        """Returns the stored regions and boxes with the current source and captions. UserError for a corrupt shard."""
        tar, offsets = photo["reuse"]["tar"], photo["reuse"]["offsets"]
        regions, boxes, stored = (
            bytes(read_sample_member(old, tar, photo["key"], number, extent)) for number, extent in enumerate(offsets)
        )
        meta = json.loads(stored) | {"source": photo["source"], "captions": photo["captions"]}
        return Sample(photo["key"], load_npy(regions), load_npy(boxes), meta, photo["version_token"])


class _MatrixReader:
    """Reads consecutive rows of a matrix that is given as bytes."""

    def __init__(self, data: bytes, dtype: type, rows: int) -> None:
        self._at = 0
        self._matrix: NDArray[Any] = np.frombuffer(data, dtype).reshape(rows, -1) if rows else np.empty((0, 0), dtype)

    def take(self, count: int) -> NDArray[Any]:
        self._at += count
        return self._matrix[self._at - count : self._at]
