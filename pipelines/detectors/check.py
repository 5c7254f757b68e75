"""Detectors are loaded, and a user's own held to the contract, before any photo is read: where they will run."""

from __future__ import annotations

import numpy as np

from infra.errors import UserError
from pipelines.detectors.contract import DetectorSpec, Regions, check_regions
from pipelines.detectors.registry import is_plugin

SIZES = ((120, 200), (1, 1), (333, 97))
"""Height and width of the photos that it is tried on."""


def check_detector(name: str, spec: DetectorSpec, device: str, cpus: float, gpus: float) -> None:
    """Builds the detector in one Ray task with a detector's resources; UserError says what is wrong.

    A user's own is also tried on noise. One of ours at its defaults needs no check: its weights come with it.
    """
    import ray

    task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(find_fault if is_plugin(name) else find_load_fault)
    try:
        fault = ray.get(task.remote(spec, device))
    except ray.exceptions.RayError as error:
        said = str(error).strip().splitlines()[-1].strip()  # before it stands the worker's whole traceback
        raise UserError(f"detector {name}: a worker cannot load it ({said}); is it there?") from error
    if fault:
        raise UserError(f"detector {name}: {fault}")


def find_load_fault(spec: DetectorSpec, device: str) -> str:
    """Why it cannot be loaded; empty if it can."""
    try:
        spec.build(device)
    except Exception as error:  # noqa: BLE001 - told to whoever gave the weights
        return _told(error)
    return ""


def find_fault(spec: DetectorSpec, device: str) -> str:
    """What the detector does against the contract on noise of several sizes, twice; empty if nothing."""
    noise = np.random.default_rng(0)
    photos = [noise.integers(0, 256, (height, width, 3), dtype=np.uint8) for height, width in SIZES]
    try:
        detector = spec.build(device)
        first, second = detector(photos), detector(photos)
    except Exception as error:  # noqa: BLE001 - whatever a stranger's code raises is told to its author
        return f"it fails on noise of {SIZES} pixels ({_told(error)})"
    if len(first) != len(photos):
        return f"it breaks the contract: {len(first)} results for {len(photos)} photos"
    for photo, once, again in zip(photos, first, second, strict=True):
        try:
            check_regions(once, photo.shape[:2], spec)
        except (ValueError, AttributeError, TypeError) as error:
            return f"it breaks the contract: {error}"
        if not _same(once, again):
            return "it breaks the contract: the same photo gives other regions the second time"
    return ""


def _told(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"


def _same(once: Regions, again: Regions) -> bool:
    fields = ("features", "boxes", "classes", "confidences")
    return all(np.array_equal(getattr(once, field), getattr(again, field)) for field in fields)
