"""Checks one photo's members of a shard against the schema: types, shapes, finite values, boxes within the photo."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.features.index import DetectorDescription
from pipelines.features.npy import view_npy


@dataclass(frozen=True)
class Schema:
    """What the index states about every photo."""

    region_range: tuple[int, int]
    """Fewest and most regions of a photo."""
    feature_dim: int
    ids: Mapping[str, frozenset[int]]
    """Known ids of `classes` and `attributes`; empty if the detector does not name them."""

    @classmethod
    def of(cls, detector: DetectorDescription) -> "Schema":
        """Returns the schema of a detector's photos."""
        ids = {"classes": frozenset(detector.class_names), "attributes": frozenset(detector.attribute_names)}
        return cls(detector.region_range, detector.feature_dim, ids)


def sample_errors(regions: bytes, boxes: bytes, metadata: bytes, schema: Schema) -> Iterator[str]:
    """Yields every error in a photo's three members, each starting with the member's name."""
    regions_RF, boxes_R4, meta = _array(regions), _array(boxes), _json(metadata)
    if regions_RF is None:
        yield "regions.npy is not a readable array"
    else:
        yield from _regions_errors(regions_RF, schema)
    count = len(regions_RF) if regions_RF is not None and regions_RF.ndim else None
    if boxes_R4 is None:
        yield "boxes.npy is not a readable array"
    else:
        yield from _boxes_errors(boxes_R4, count, meta or {})
    if meta is None:
        yield "json is not a readable JSON object"
    else:
        yield from _meta_errors(meta, count, schema)


def read_meta(metadata: bytes) -> dict[str, Any]:
    """Returns the `.json` member as a document; empty if it is not readable."""
    return _json(metadata) or {}


def _regions_errors(regions_RF: NDArray[Any], schema: Schema) -> Iterator[str]:
    min_regions, max_regions = schema.region_range
    if regions_RF.dtype != np.float16 or regions_RF.ndim != 2:
        yield f"regions.npy is {regions_RF.dtype} {regions_RF.shape}, expected float16 (R, {schema.feature_dim})"
        return
    count, width = regions_RF.shape
    if width != schema.feature_dim:
        yield f"regions.npy has {width} numbers per region, the index has {schema.feature_dim}"
    if not min_regions <= count <= max_regions:
        yield f"regions.npy has {count} regions, the index has {min_regions} to {max_regions}"
    if not np.isfinite(regions_RF).all():
        yield "regions.npy has values that are not finite"


def _boxes_errors(boxes_R4: NDArray[Any], count: int | None, meta: Mapping[str, Any]) -> Iterator[str]:
    """An import may have no boxes (0 x 4), or no size of the photo to check them against."""
    if boxes_R4.dtype != np.float32 or boxes_R4.ndim != 2 or boxes_R4.shape[1] != 4:
        yield f"boxes.npy is {boxes_R4.dtype} {boxes_R4.shape}, expected float32 (R, 4)"
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


def _meta_errors(meta: Mapping[str, Any], count: int | None, schema: Schema) -> Iterator[str]:
    captions = meta.get("captions")
    if not isinstance(captions, list) or not all(isinstance(c, str) and c.strip() for c in captions):
        yield "json has no list of captions, or one of them is empty"
    if not isinstance(meta.get("source"), str) or not meta["source"]:
        yield "json has no source"
    for side in ("width", "height"):
        if meta.get(side) is not None and not _is_count(meta[side]):
            yield f"json has a {side} of {meta[side]!r}"
    for ids in ("classes", "attributes"):
        if ids in meta or ids == "classes":
            yield from _ids_errors(ids, meta.get(ids), count, schema.ids[ids])
    for scores in ("confidences", "attribute_confidences"):
        if scores in meta or scores == "confidences":
            yield from _scores_errors(scores, meta.get(scores), count)


def _ids_errors(name: str, ids: Any, count: int | None, known: frozenset[int]) -> Iterator[str]:
    if not isinstance(ids, list) or not all(type(id_) is int for id_ in ids):
        yield f"json has no list of integers `{name}`"
        return
    if count is not None and len(ids) not in (0, count):
        yield f"json has {len(ids)} {name} for {count} regions"
    unknown = sorted({id_ for id_ in ids if known and id_ not in known})
    if unknown:
        yield f"json has {name} that the index does not list, first {unknown[0]}"


def _scores_errors(name: str, scores: Any, count: int | None) -> Iterator[str]:
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
        return view_npy(memoryview(data))
    except Exception:  # noqa: BLE001 - a corrupt header can raise anything
        return None


def _json(data: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None
