"""A user's own detector is held to the contract before any photo is read, where the photos' detectors will run."""

from __future__ import annotations

import numpy as np

from infra.cluster import last_line
from infra.errors import UserError
from pipelines.detectors.contract import DetectorSpec, Regions, check_regions

SIZES = ((120, 200), (1, 1), (333, 97))
"""Height and width of the photos that it is tried on."""


def check_plugin(name: str, spec: DetectorSpec, device: str, cpus: float, gpus: float) -> None:
    """Builds the detector in one Ray task with a detector's resources and tries it; UserError says what is wrong."""
    import ray

    task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(find_fault)
    try:
        fault = ray.get(task.remote(spec, device))
    except ray.exceptions.RayError as error:
        raise UserError(f"detector {name}: a worker cannot load it ({last_line(error)}); is it there?") from error
    if fault:
        raise UserError(f"detector {name} breaks the contract: {fault}; see pipelines.detectors.contract")


def find_fault(spec: DetectorSpec, device: str) -> str:
    """What the detector does against the contract on noise of several sizes, twice; empty if nothing."""
    noise = np.random.default_rng(0)
    photos = [noise.integers(0, 256, (height, width, 3), dtype=np.uint8) for height, width in SIZES]
    try:
        detector = spec.build(device)
        first, second = detector(photos), detector(photos)
    except Exception as error:  # noqa: BLE001 - whatever a stranger's code raises is told to its author
        return f"it fails on noise of {SIZES} pixels ({type(error).__name__}: {error})"
    if len(first) != len(photos):
        return f"{len(first)} results for {len(photos)} photos"
    for photo, once, again in zip(photos, first, second, strict=True):
        try:
            check_regions(once, photo.shape[:2], spec)
        except (ValueError, AttributeError, TypeError) as error:
            return str(error)
        if not _same(once, again):
            return "the same photo gives other regions the second time"
    return ""


def _same(once: Regions, again: Regions) -> bool:
    fields = ("features", "boxes", "classes", "confidences")
    return all(np.array_equal(getattr(once, field), getattr(again, field)) for field in fields)
