"""Checks a detector before any photo is read, in a Ray task with the resources that the detector will have."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from infra.cluster_resources import result_of
from infra.errors import UserError
from infra.process_deadline import process_deadline
from pipelines.detectors.contract import DetectorSpec, Regions, check_regions
from pipelines.detectors.registry import is_plugin

DEADLINE_S = 600.0
"""Time in which a plugin must process the noise images once."""
SIZES = ((120, 200), (1, 1), (333, 97))
"""Height and width of the noise images that a plugin is run on."""


def check_detector(name: str, spec: DetectorSpec, device: str, cpus: float, gpus: float) -> None:
    """Builds the detector in one Ray task; a plugin is also run on noise and held to the contract.

    Raises UserError with the reason if the detector cannot be loaded or breaks the contract.
    """
    import ray

    check = contract_error if is_plugin(name) else load_error
    task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(check)
    try:
        reason = result_of(task.remote(spec, device), f"detector {name} to load in a worker")
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
        raise UserError(
            f"detector {name}: its process died (a crash, too little memory, or no result on noise within "
            f"{DEADLINE_S:g} s); read the log of the worker"
        ) from error
    except ray.exceptions.RayError as error:
        cause = str(error).strip().splitlines()[-1].strip()  # the lines before it are the worker's traceback
        raise UserError(
            f"detector {name}: a worker cannot load it ({cause}); check that its package is installed on the workers"
        ) from error
    if reason:
        raise UserError(f"detector {name}: {reason}")


def load_error(spec: DetectorSpec, device: str) -> str:
    """Returns why the detector cannot be loaded, or an empty string if it can."""
    try:
        spec.build(device)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - reported to the user
        return _describe(error)
    return ""


def contract_error(spec: DetectorSpec, device: str) -> str:
    """Runs the detector twice on noise of several sizes; returns how it breaks the contract, or an empty string."""
    noise = np.random.default_rng(0)
    photos = [noise.integers(0, 256, (height, width, 3), dtype=np.uint8) for height, width in SIZES]
    try:
        detector = spec.build(device)
        with process_deadline(DEADLINE_S):
            first = detector(photos)
        with process_deadline(DEADLINE_S):
            second = detector(photos)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - reported to the author of the plugin
        return f"it fails on noise of {SIZES} pixels ({_describe(error)})"
    for found in (first, second):
        if not isinstance(found, Sequence):
            return f"it breaks the contract: it returns {type(found).__name__}, expected a list of Regions"
        if len(found) != len(photos):
            return f"it breaks the contract: {len(found)} results for {len(photos)} photos"
    for photo, once, again in zip(photos, first, second, strict=True):
        try:
            check_regions(once, photo.shape[:2], spec)
        except (ValueError, AttributeError, TypeError) as error:
            return f"it breaks the contract: {error}"
        if not _equal(once, again):
            return "it breaks the contract: the same photo gives different regions the second time"
    return ""


def _describe(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"


def _equal(once: Regions, again: Regions) -> bool:
    fields = ("features", "boxes", "classes", "confidences")
    return all(np.array_equal(getattr(once, field), getattr(again, field)) for field in fields)
