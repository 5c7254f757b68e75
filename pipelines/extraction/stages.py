"""The stages of extraction. Each takes one row, a shard, and gives one row back; none of them needs Ray to run.

Rows hold strings and bytes only: Ray Data accounts for those, and they are the same whatever a shard holds.

| after  | columns |
|---|---|
| plan   | `shard` name, `photos`: JSON list of key, source, captions, version_token, `reuse` (a location or null) |
| fetch  | + `pixels`: the photos' RGB bytes, one after the other; a photo gains sizes and sha256, or a `reason` |
| detect | + `regions` fp16, `boxes` fp32 in place of `pixels`; a photo gains `found`: what is said of its regions |
| commit | `shard`, and its `receipt` as JSON |

A photo to reuse passes through the first two untouched.
"""

import json
import sys
from dataclasses import asdict
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.errors import UserError
from infra.storage.base import Store
from pipelines.datasets.decode import PhotoError, decode_photo
from pipelines.datasets.photo_sources import photo_uri, read_photo
from pipelines.detectors.contract import DetectorSpec, Regions, check_regions
from pipelines.extraction.reconcile import ShardPlan
from pipelines.extraction.shard_plan import rows_digest, shard_name
from pipelines.extraction.worker_errors import whole_errors
from pipelines.features.shards import (
    OtherPhotosError,
    Receipt,
    Rejection,
    Sample,
    StoredShards,
    commit_shard,
    load_npy,
    read_member,
)

Row = dict[str, Any]


def plan_row(shard: ShardPlan) -> Row:
    """The row that starts a shard on its way."""
    photos = [
        {
            "key": photo.key,
            "source": photo.source,
            "captions": photo.captions,
            "version_token": photo.version_token,
            "reuse": asdict(shard.reuse[photo.key]) if photo.key in shard.reuse else None,
        }
        for photo in shard.photos
    ]
    return {"shard": shard.name, "photos": json.dumps(photos)}


class Fetch:
    """Reads and decodes every photo of a shard; a photo that cannot be used goes on as its reason."""

    def __init__(self, root: str) -> None:
        self._root = root

    @whole_errors
    def __call__(self, row: Row) -> Row:
        """Plan row to fetched row."""
        photos, pixels = json.loads(row["photos"]), []
        for photo in photos:
            if photo["reuse"]:
                continue
            try:
                data = read_photo(photo_uri(self._root, photo["source"]))
                photo["sha256"] = sha256(data).hexdigest()
                decoded = decode_photo(data)
            except PhotoError as error:
                photo["reason"] = str(error)
            else:
                photo["width"], photo["height"] = decoded.width, decoded.height
                photo["shape"] = decoded.pixels.shape
                pixels.append(decoded.pixels.tobytes())
        return {"shard": row["shard"], "photos": json.dumps(photos), "pixels": b"".join(pixels)}


class Detect:
    """Runs the detector over a shard's photos in batches. One of these lives in each actor."""

    def __init__(self, spec: DetectorSpec, device: str, detector_batch_size: int) -> None:
        self._spec, self._detector = spec, spec.build(device)
        use_assigned_cores()
        self._detector_batch_size = detector_batch_size

    @whole_errors
    def __call__(self, row: Row) -> Row:
        """Fetched row to detected row."""
        photos = json.loads(row["photos"])
        to_detect = [photo for photo in photos if "shape" in photo]
        pixels, step = _split_pixels(row["pixels"], to_detect), self._detector_batch_size
        found = [
            regions
            for start in range(0, len(pixels), step)
            for regions in self._find(to_detect[start : start + step], pixels[start : start + step])
        ]
        kept, boxes = [], []
        for photo, regions in zip(to_detect, found, strict=True):
            height, width, _ = photo.pop("shape")
            check_regions(regions, (height, width), self._spec)
            halves = regions.features.astype(np.float16)
            if not np.isfinite(halves).all():
                photo["reason"] = "features beyond float16 (65504)"
                continue
            photo["found"] = _said_of(regions)
            kept.append(halves)
            boxes.append(_in_original(regions.boxes, (width, height), (photo["width"], photo["height"])))
        return {
            "shard": row["shard"],
            "photos": json.dumps(photos),
            "regions": b"".join(halves.tobytes() for halves in kept),
            "boxes": b"".join(boxes_R4.tobytes() for boxes_R4 in boxes),
        }

    def _find(self, photos: list[Row], pixels: list[NDArray[np.uint8]]) -> list[Regions]:
        """One batch; UserError, naming the photos, where the detector raises."""
        try:
            with np.errstate(over="ignore"):
                return self._detector(pixels)
        except Exception as error:
            among = ", ".join(photo["source"] for photo in photos)
            raise UserError(f"the detector fails on one of {among} ({type(error).__name__}: {error})") from error


class Commit:
    """Builds the shard and writes it, then its receipt."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @whole_errors
    def __call__(self, row: Row) -> Row:
        """Detected row to the receipt of all its photos, written and rejected."""
        photos = json.loads(row["photos"])
        rows = sum(len(photo["found"]["classes"]) for photo in photos if "found" in photo)
        regions = _Taker(row.get("regions", b""), np.float16, rows)
        boxes = _Taker(row.get("boxes", b""), np.float32, rows)
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
            raise RuntimeError(f"{self._store.uri}/{receipt.shard}: its receipt does not account for each photo")
        return {"shard": row["shard"], "receipt": receipt.to_json()}

    def _commit(self, shard: str, photos: list[Row], samples: list[Sample], rejected: list[Rejection]) -> Receipt:
        """Under the planned name; under one of the photos' bytes if a run that died left other photos there."""
        rows = rows_digest([(photo["key"], photo["source"], photo["captions"]) for photo in photos])
        try:
            return commit_shard(self._store, shard, samples, rejected, rows)
        except OtherPhotosError:
            contents = {row.key: row.sha256 for row in rejected} | {s.key: s.meta["sha256"] for s in samples}
            _, split, number, _ = shard.split("-")
            return commit_shard(self._store, shard_name(split, int(number), rows, contents), samples, rejected, rows)

    def _reused(self, photo: Row, old: StoredShards) -> Sample:
        """Regions and boxes as they were; source and captions as they are now. UserError if their shard is damaged."""
        tar, places = photo["reuse"]["tar"], photo["reuse"]["offsets"]
        regions, boxes, meta = (
            bytes(read_member(old, tar, photo["key"], number, place)) for number, place in enumerate(places)
        )
        said = json.loads(meta) | {"source": photo["source"], "captions": photo["captions"]}
        return Sample(photo["key"], load_npy(regions), load_npy(boxes), said, photo["version_token"])


class _Taker:
    """Gives out the rows of a matrix that came as bytes, some at a time."""

    def __init__(self, data: bytes, dtype: type, rows: int) -> None:
        self._at = 0
        self._matrix: NDArray[Any] = np.frombuffer(data, dtype).reshape(rows, -1) if rows else np.empty((0, 0), dtype)

    def take(self, count: int) -> NDArray[Any]:
        self._at += count
        return self._matrix[self._at - count : self._at]


def _in_original(
    boxes_R4: NDArray[np.float32], shown: tuple[int, int], original: tuple[int, int]
) -> NDArray[np.float32]:
    """Boxes of a photo shown to the detector at one (width, height), in pixels of its original (width, height)."""
    if shown == original:
        return boxes_R4
    scaled = boxes_R4.astype(np.float64) / (shown * 2) * (original * 2)
    return np.minimum(scaled, original * 2).astype(np.float32)


def _said_of(regions: Regions) -> dict[str, Any]:
    """What goes into a photo's JSON; confidences to four digits."""
    said = {"classes": regions.classes.tolist(), "confidences": _rounded(regions.confidences)}
    if regions.attributes is not None and regions.attribute_confidences is not None:
        said["attributes"] = regions.attributes.tolist()
        said["attribute_confidences"] = _rounded(regions.attribute_confidences)
    return said


def _rounded(values: NDArray[np.floating]) -> list[float]:
    return [round(float(value), 4) for value in values]


def _split_pixels(pixels: bytes, photos: list[Row]) -> list[NDArray[np.uint8]]:
    views, start = [], 0
    for photo in photos:
        size = int(np.prod(photo["shape"]))
        views.append(np.frombuffer(pixels, np.uint8, size, start).reshape(photo["shape"]))
        start += size
    assert start == len(pixels), f"{len(pixels) - start} bytes of pixels belong to no photo"
    return views


def use_assigned_cores() -> None:
    """Torch beside busy processes is several times slower when it takes more threads than the actor was given cores."""
    import ray

    if ray.is_initialized() and "torch" in sys.modules:  # a detector may do without it
        import torch

        cores = ray.get_runtime_context().get_assigned_resources().get("CPU", 1)
        torch.set_num_threads(max(1, int(cores)))
