"""The three stages of extraction. Each takes one row, a shard, and gives one row back; none of them needs Ray to run.

Rows hold strings and bytes only: Ray Data accounts for those, and they are the same whatever a shard holds.

| after  | columns |
|---|---|
| plan   | `shard` name, `photos` JSON list of key, source, captions |
| fetch  | + `pixels`: the photos' RGB bytes, one after the other; a photo gains its size and sha256, or a `reason` |
| detect | + `regions` fp16, `boxes` fp32 in place of `pixels`; a photo gains classes and confidences |
| commit | `shard`, and `count` of its photos, written and rejected |
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.store import Store
from pipelines.detectors import registry
from pipelines.detectors.contract import REGIONS, check_regions
from pipelines.photos import PhotoError, load_photo
from pipelines.plan import ShardPlan
from pipelines.shards import Rejection, Sample, commit_shard

Row = dict[str, Any]


def plan_row(shard: ShardPlan) -> Row:
    """The row that starts a shard on its way."""
    return {"shard": shard.name, "photos": json.dumps([asdict(photo) for photo in shard.photos])}


class Fetch:
    """Reads and decodes every photo of a shard; a photo that cannot be used goes on as its reason."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __call__(self, row: Row) -> Row:
        """Plan row to fetched row."""
        photos, pixels = json.loads(row["photos"]), []
        for photo in photos:
            try:
                decoded = load_photo(self._root / photo["source"])
            except PhotoError as error:
                photo["reason"] = str(error)
            else:
                photo["height"], photo["width"] = decoded.pixels.shape[:2]
                photo["sha256"] = decoded.sha256
                pixels.append(decoded.pixels.tobytes())
        return {"shard": row["shard"], "photos": json.dumps(photos), "pixels": b"".join(pixels)}


class Detect:
    """Runs the detector over a shard's photos in batches. One of these lives in each actor."""

    def __init__(self, detector: str, photos_per_batch: int) -> None:
        _use_assigned_cores()
        self._detector = registry.build(detector)
        self._photos_per_batch = photos_per_batch

    def __call__(self, row: Row) -> Row:
        """Fetched row to detected row."""
        photos = json.loads(row["photos"])
        usable = [photo for photo in photos if "reason" not in photo]
        pixels = _split_pixels(row["pixels"], usable)
        found = [
            regions
            for start in range(0, len(pixels), self._photos_per_batch)
            for regions in self._detector(pixels[start : start + self._photos_per_batch])
        ]
        for photo, regions in zip(usable, found, strict=True):
            check_regions(regions, (photo["height"], photo["width"]), self._detector.feature_dim)
            photo["classes"] = regions.classes.tolist()
            photo["confidences"] = [round(float(c), 4) for c in regions.confidences]
        return {
            "shard": row["shard"],
            "photos": json.dumps(photos),
            "regions": b"".join(r.features.astype(np.float16).tobytes() for r in found),
            "boxes": b"".join(r.boxes.astype(np.float32).tobytes() for r in found),
        }


class Commit:
    """Builds the shard and writes it, then its receipt."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __call__(self, row: Row) -> Row:
        """Detected row to the count of photos that are now accounted for."""
        photos = json.loads(row["photos"])
        usable = [photo for photo in photos if "reason" not in photo]
        rejected = [Rejection(p["key"], p["source"], p["reason"]) for p in photos if "reason" in p]
        boxes = np.frombuffer(row["boxes"], np.float32).reshape(len(usable), REGIONS, 4)
        regions = np.frombuffer(row["regions"], np.float16).reshape(len(usable), REGIONS, -1 if usable else 0)
        samples = [
            Sample(photo["key"], regions[i], boxes[i], {k: v for k, v in photo.items() if k not in ("key", "split")})
            for i, photo in enumerate(usable)
        ]
        receipt = commit_shard(self._store, row["shard"], samples, rejected)
        return {"shard": row["shard"], "count": len(receipt.keys) + len(receipt.rejected)}


def _split_pixels(pixels: bytes, photos: list[dict[str, Any]]) -> list[NDArray[np.uint8]]:
    views, start = [], 0
    for photo in photos:
        shape = (photo["height"], photo["width"], 3)
        size = int(np.prod(shape))
        views.append(np.frombuffer(pixels, np.uint8, size, start).reshape(shape))
        start += size
    assert start == len(pixels), f"{len(pixels) - start} bytes of pixels belong to no photo"
    return views


def _use_assigned_cores() -> None:
    """Torch beside busy processes is several times slower when it takes more threads than the actor was given cores."""
    import ray
    import torch

    if ray.is_initialized():
        cores = ray.get_runtime_context().get_assigned_resources().get("CPU", 1)
        torch.set_num_threads(max(1, int(cores)))
