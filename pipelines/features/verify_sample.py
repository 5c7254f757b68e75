"""Whether one photo's members of a shard hold what they promise: types, shapes, finite values, boxes in the photo."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.features.shards import load_npy


@dataclass(frozen=True)
class Promise:
    """What an index says of every photo."""

    regions: tuple[int, int]
    """Fewest and most regions a photo."""
    feature_dim: int
    names: Mapping[str, frozenset[int]]
    """Known ids of `classes` and `attributes`; empty where the detector names none."""

    @classmethod
    def of(cls, detector: Mapping[str, Any]) -> "Promise":
        """From the index's `detector`. Raises KeyError, TypeError or ValueError if that is not one."""
        fewest, most = detector["regions"]
        names = {
            "classes": frozenset(map(int, detector["class_names"])),
            "attributes": frozenset(map(int, detector.get("attribute_names", ()))),
        }
        return cls((int(fewest), int(most)), int(detector["feature_dim"]), names)


def sample_faults(regions: bytes, boxes: bytes, record: bytes, promise: Promise) -> Iterator[str]:
    """Every fault of a photo's three members, each starting with the member's name."""
    regions_RF, boxes_R4, meta = _array(regions), _array(boxes), _json(record)
    if regions_RF is None:
        yield "regions.npy is no readable array"
    else:
        yield from _regions_faults(regions_RF, promise)
    count = len(regions_RF) if regions_RF is not None and regions_RF.ndim else None
    if boxes_R4 is None:
        yield "boxes.npy is no readable array"
    else:
        yield from _boxes_faults(boxes_R4, count, meta or {})
    if meta is None:
        yield "json is no readable JSON object"
    else:
        yield from _meta_faults(meta, count, promise)


def read_meta(record: bytes) -> dict[str, Any]:
    """The `.json` member; empty if it is not readable."""
    return _json(record) or {}


def _regions_faults(regions_RF: NDArray[Any], promise: Promise) -> Iterator[str]:
    fewest, most = promise.regions
    if regions_RF.dtype != np.float16 or regions_RF.ndim != 2:
        yield f"regions.npy is {regions_RF.dtype} {regions_RF.shape}, wanted float16 (R, {promise.feature_dim})"
        return
    count, width = regions_RF.shape
    if width != promise.feature_dim:
        yield f"regions.npy has {width} numbers a region, the index says {promise.feature_dim}"
    if not fewest <= count <= most:
        yield f"regions.npy has {count} regions, the index says {fewest} to {most}"
    if not np.isfinite(regions_RF).all():
        yield "regions.npy has values that are not finite"


def _boxes_faults(boxes_R4: NDArray[Any], count: int | None, meta: Mapping[str, Any]) -> Iterator[str]:
    """An import may have brought no boxes (0 x 4), or no size of the photo to hold them against."""
    if boxes_R4.dtype != np.float32 or boxes_R4.ndim != 2 or boxes_R4.shape[1] != 4:
        yield f"boxes.npy is {boxes_R4.dtype} {boxes_R4.shape}, wanted float32 (R, 4)"
        return
    if count is not None and len(boxes_R4) not in (0, count):
        yield f"boxes.npy has {len(boxes_R4)} boxes for {count} regions"
    if not np.isfinite(boxes_R4).all():
        yield "boxes.npy has values that are not finite"
        return
    x0, y0, x1, y1 = boxes_R4.T
    if (x1 <= x0).any() or (y1 <= y0).any():
        yield "boxes.npy has boxes without area"
    width, height = (meta.get(side) for side in ("width", "height"))
    sized = _is_count(width) and _is_count(height)
    if boxes_R4.min(initial=0) < 0 or (sized and ((x1 > width).any() or (y1 > height).any())):
        yield "boxes.npy has boxes that reach outside the photo" + (f" of {width} x {height}" if sized else "")


def _meta_faults(meta: Mapping[str, Any], count: int | None, promise: Promise) -> Iterator[str]:
    captions = meta.get("captions")
    if not isinstance(captions, list) or not captions or not all(isinstance(c, str) and c.strip() for c in captions):
        yield "json has no list of captions, or an empty one among them"
    if not isinstance(meta.get("source"), str) or not meta["source"]:
        yield "json has no source"
    for side in ("width", "height"):
        if meta.get(side) is not None and not _is_count(meta[side]):
            yield f"json has a {side} of {meta[side]!r}"
    for ids in ("classes", "attributes"):
        if ids in meta or ids == "classes":
            yield from _ids_faults(ids, meta.get(ids), count, promise.names[ids])
    for scores in ("confidences", "attribute_confidences"):
        if scores in meta or scores == "confidences":
            yield from _scores_faults(scores, meta.get(scores), count)


def _ids_faults(name: str, ids: Any, count: int | None, known: frozenset[int]) -> Iterator[str]:
    if not isinstance(ids, list) or not all(type(id_) is int for id_ in ids):
        yield f"json has no list of whole numbers `{name}`"
        return
    if count is not None and len(ids) not in (0, count):
        yield f"json has {len(ids)} {name} for {count} regions"
    strange = sorted({id_ for id_ in ids if known and id_ not in known})
    if strange:
        yield f"json has {name} that the index does not name, first {strange[0]}"


def _scores_faults(name: str, scores: Any, count: int | None) -> Iterator[str]:
    if not isinstance(scores, list) or not all(type(score) in (int, float) for score in scores):
        yield f"json has no list of numbers `{name}`"
        return
    if count is not None and len(scores) not in (0, count):
        yield f"json has {len(scores)} {name} for {count} regions"
    if not all(0 <= score <= 1 for score in scores):  # also NaN
        yield f"json has {name} outside [0, 1]"


def _is_count(value: Any) -> bool:
    return type(value) is int and value > 0


def _array(data: bytes) -> NDArray[Any] | None:
    try:
        return load_npy(data)
    except Exception:  # noqa: BLE001 - a damaged header can raise anything
        return None


def _json(data: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None
