"""The Ray Data operators of an extraction. Each maps one row to one row, and runs without Ray as well.

A row is a part of a shard (`shard_plan`). Rows hold only strings, bytes and flags, whose memory Ray Data accounts for
exactly. Module `cut` makes the first row of every part.

| after  | columns |
|---|---|
| cut    | `shard`: name of the shard; `part`: name of the part, that of the shard if it has no others |
|        | `photos`: JSON list of key, source, captions, version_token, `reuse` (StoredRegions or null) |
| fetch  | + `pixels`: RGB bytes of all photos; each photo gains width, height, shape and sha256, or a `reason` |
|        | + `isolate`: whether a process died at this shard (`attempts`) |
| detect | - `pixels`, + `regions` (float16) and `boxes` (float32); each photo gains `found`: classes, confidences |
|        | or a `reason` (module `detect`) |
| commit | `shard`, the `receipt` of the part as JSON, and `reused`, the number of photos that were copied |

Every row also has `times` (`phase_times`).

A photo with `reuse` passes through fetch and detect unchanged; commit copies its regions.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.metrics import DECODED_PHOTOS, FETCHED_BYTES, FETCHED_PHOTOS
from infra.process_deadline import process_deadline
from infra.storage.base import Store
from pipelines.datasets.decode import PhotoError, decode_photo
from pipelines.datasets.photo_sources import photo_uri
from pipelines.datasets.read_photos import read_photos
from pipelines.extraction.attempts import Attempts, noted_deaths
from pipelines.extraction.phase_times import PartStopwatch, no_times
from pipelines.extraction.worker_errors import keep_error_message
from pipelines.features.layout import attempts_name, renamed
from pipelines.features.npy import load_npy
from pipelines.features.receipt import Receipt, Rejection, Written
from pipelines.features.shard_plan import PlannedPart, plan_digest
from pipelines.features.shard_reader import ShardBlock, read_sample_member
from pipelines.features.shards import OtherPhotosError, Sample, build_tar, commit_tar

PartRow = dict[str, Any]
"""A row of Ray Data: one part of a shard."""
PartPhoto = dict[str, Any]
"""One element of a row's `photos`."""
DECODE_DEADLINE_S = 600.0
"""Time in which a photo must be decoded."""


@dataclass(frozen=True)
class StoredRegions:
    """Where a photo's regions are stored already."""

    tar: str
    """A tar that was verified."""
    offsets: tuple[tuple[int, int], ...]
    """As in the receipt."""


def part_row(shard: str, part: PlannedPart, stored: Mapping[str, StoredRegions]) -> PartRow:
    """Returns the first row of a part. `stored`: regions that are copied, by key."""
    photos = [
        {
            "key": photo.key,
            "source": photo.source,
            "captions": photo.captions,
            "version_token": photo.version_token,
            "reuse": asdict(stored[photo.key]) if photo.key in stored else None,
        }
        for photo in part.photos
    ]
    return {"shard": shard, "part": part.name, "photos": json.dumps(photos), "times": no_times()}


class Fetch:
    """Reads and decodes every photo of a part. A photo that cannot be used gets a rejection reason."""

    def __init__(self, root: str, store: Store) -> None:
        self._root, self._store = root, store

    @keep_error_message
    def __call__(self, row: PartRow) -> PartRow:
        """Maps the row of a part to a fetched row."""
        photos, pixels, sizes, watch = json.loads(row["photos"]), [], [], PartStopwatch(row)
        new = [photo for photo in photos if not photo["reuse"]]
        uris = [photo_uri(self._root, photo["source"]) for photo in new]
        isolate = bool(noted_deaths(self._store, row["part"]))
        with Attempts(self._store, row["part"], "decode", isolate) as attempts:
            ahead = read_photos([] if attempts.isolate else uris)
            for photo, uri in zip(new, uris, strict=True):
                try:
                    with attempts.photo(photo["key"], "read"), watch("fetch"):
                        data = next(read_photos([uri]) if attempts.isolate else ahead)
                    if isinstance(data, PhotoError):
                        raise data
                    photo["sha256"] = sha256(data).hexdigest()
                    sizes.append(len(data))
                    with attempts.photo(photo["key"]), process_deadline(DECODE_DEADLINE_S), watch("decode"):
                        decoded = decode_photo(data)
                except PhotoError as error:
                    photo["reason"] = str(error)
                else:
                    photo["width"], photo["height"] = decoded.width, decoded.height
                    photo["shape"] = decoded.pixels.shape
                    pixels.append(decoded.pixels.tobytes())
        FETCHED_PHOTOS.add(len(sizes))
        FETCHED_BYTES.add(sum(sizes))
        DECODED_PHOTOS.add(len(pixels))
        return {
            "shard": row["shard"],
            "part": row["part"],
            "photos": json.dumps(photos),
            "isolate": attempts.isolate,
            "pixels": b"".join(pixels),
            "times": watch.times(),
        }


class Commit:
    """Builds and writes the part, then its receipt."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @keep_error_message
    def __call__(self, row: PartRow) -> PartRow:
        """Maps a detected row to the part's receipt, which accounts for every photo as written or rejected."""
        photos, watch = json.loads(row["photos"]), PartStopwatch(row)
        rows = sum(len(photo["found"]["classes"]) for photo in photos if "found" in photo)
        regions = _MatrixReader(row.get("regions", b""), np.float16, rows)
        boxes = _MatrixReader(row.get("boxes", b""), np.float32, rows)
        samples, rejected = [], []
        for photo in photos:
            if "reason" in photo:
                sha = photo.get("sha256", "")
                rejected.append(Rejection(photo["key"], photo["source"], photo["reason"], photo["version_token"], sha))
            elif photo["reuse"]:
                samples.append(self._reused(photo))
            else:
                meta = {name: photo[name] for name in ("source", "captions", "width", "height", "sha256")}
                meta |= photo["found"]
                count = len(meta["classes"])
                samples.append(
                    Sample(photo["key"], regions.take(count), boxes.take(count), meta, photo["version_token"])
                )
        with watch("pack"):
            tar = build_tar(samples)
        with watch("put"):
            receipt = self._commit(row["part"], photos, tar, samples, rejected)
        if {entry.key for entry in receipt.planned} != {photo["key"] for photo in photos}:
            raise RuntimeError(f"{self._store.uri}/{receipt.shard}: its receipt does not account for every photo")
        if row.get("isolate"):
            self._store.delete(attempts_name(row["part"]))
        reused = sum(bool(photo["reuse"]) for photo in photos)
        return {"shard": row["shard"], "receipt": receipt.to_json(), "reused": reused, "times": watch.times()}

    def _commit(
        self, part: str, photos: list[PartPhoto], tar: bytes, samples: list[Sample], rejected: list[Rejection]
    ) -> Receipt:
        """Commits under the planned name, or, if it is taken by other photos, under a name of the photos' bytes."""
        digest = plan_digest([(photo["key"], photo["source"], photo["captions"]) for photo in photos])
        try:
            return commit_tar(self._store, part, tar, samples, rejected, digest)
        except OtherPhotosError:
            contents = {row.key: row.sha256 for row in rejected} | {s.key: s.meta["sha256"] for s in samples}
            return commit_tar(self._store, renamed(part, digest, contents), tar, samples, rejected, digest)

    def _reused(self, photo: PartPhoto) -> Sample:
        """Returns the stored regions and boxes with the current source and captions. UserError for a corrupt shard."""
        tar, offsets = photo["reuse"]["tar"], tuple((offset, size) for offset, size in photo["reuse"]["offsets"])
        block = ShardBlock.of_photo(self._store, tar, Written(photo["key"], "", "", "", offsets))
        regions, boxes, stored = (
            bytes(read_sample_member(block, tar, photo["key"], number, extent)) for number, extent in enumerate(offsets)
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
