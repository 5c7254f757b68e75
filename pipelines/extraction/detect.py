"""The operator of an extraction that runs the detector, and isolates the photos on which it fails."""

import json
import os
import sys
import traceback
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.errors import UserError
from infra.metrics import DETECTED_PHOTOS
from infra.process_deadline import process_deadline
from infra.storage.base import Store
from pipelines.datasets.decode import PhotoError
from pipelines.detectors.check import SIZES
from pipelines.detectors.contract import DetectorSpec, Regions, check_regions
from pipelines.detectors.stored_arrays import stored_arrays
from pipelines.extraction.attempts import MAX_ATTEMPTS, Attempts
from pipelines.extraction.operators import PartPhoto, PartRow
from pipelines.extraction.phase_times import PartStopwatch
from pipelines.extraction.worker_errors import keep_error_message

DEADLINE_S = 600.0
"""Time in which the detector must process one photo; the process of a detector that takes longer is ended."""
_NOISE = "(noise)"
"""Key of the noise image in the notes of attempts; no photo has it."""


class Detect:
    """Runs the detector on a part's photos in batches. Each Ray actor holds one instance.

    Each process first runs the detector on noise: if that fails, UserError ends the job, because no photo is at fault.
    Where the detector fails on a batch, or its process died, the photos are processed one by one. A photo on which the
    detector raises, gives invalid regions or ends its process is rejected with the reason. If the detector then fails
    on noise, as after a CUDA error, the photo has made the process unusable: it ends, which counts as its death.
    """

    def __init__(
        self, spec: DetectorSpec, device: str, batch_size: int, store: Store, deadline_s: float = DEADLINE_S
    ) -> None:
        self._spec, self._detector = spec, spec.build(device)
        use_assigned_cores()
        self._batch_size, self._store, self._deadline_s = batch_size, store, deadline_s
        self._works_on_noise = False

    @keep_error_message
    def __call__(self, row: PartRow) -> PartRow:
        """Maps a fetched row to a detected row."""
        photos, watch = json.loads(row["photos"]), PartStopwatch(row)
        to_detect = [photo for photo in photos if "shape" in photo]
        pixels = _split_pixels(row["pixels"], to_detect)
        with Attempts(self._store, row["part"], "run the detector on", row["isolate"]) as attempts:
            self._check_detector(attempts)
            with watch("detect"):
                outcomes = self._detect(to_detect, pixels, attempts)
        kept, boxes = [], []
        for photo, outcome in zip(to_detect, outcomes, strict=True):
            height, width, _ = photo.pop("shape")
            if isinstance(outcome, str):
                photo["reason"] = outcome
                continue
            original = (photo["width"], photo["height"])
            features_RF, boxes_R4 = stored_arrays(outcome, (width, height), original)
            if not np.isfinite(features_RF).all():
                photo["reason"] = "features beyond float16 (65504)"
                continue
            photo["found"] = _region_meta(outcome)
            kept.append(features_RF)
            boxes.append(boxes_R4)
        DETECTED_PHOTOS.add(len(kept))
        return {
            "shard": row["shard"],
            "part": row["part"],
            "photos": json.dumps(photos),
            "isolate": attempts.isolate,
            "regions": b"".join(features_RF.tobytes() for features_RF in kept),
            "boxes": b"".join(boxes_R4.tobytes() for boxes_R4 in boxes),
            "times": watch.times(),
        }

    def _check_detector(self, attempts: Attempts) -> None:
        """Runs the detector on noise, once in each process. Raises UserError with the detector's error."""
        if self._works_on_noise:
            return
        try:
            with attempts.photo(_NOISE):
                self._regions([_noise()])
        except UserError:
            raise
        except PhotoError as error:
            raise UserError(
                f"the detector ended its process {MAX_ATTEMPTS} times on noise; read the log of its process, and check "
                "the memory of the node"
            ) from error
        except (Exception, SystemExit) as error:
            raise UserError(f"the detector fails on noise ({_one_line(error)}); correct the detector") from error
        self._works_on_noise = True

    def _detect(
        self, photos: list[PartPhoto], pixels: list[NDArray[np.uint8]], attempts: Attempts
    ) -> list[Regions | str]:
        """Returns the regions of each photo, or the reason why it is rejected."""
        outcomes: list[Regions | str] = []
        step = 1 if attempts.isolate else self._batch_size
        for start in range(0, len(photos), step):
            batch = slice(start, start + step)
            try:
                if not attempts.isolate:
                    outcomes += self._regions(pixels[batch])
                    continue
            except UserError:  # it concerns all photos
                raise
            except (Exception, SystemExit):  # noqa: BLE001 - a detector may raise anything
                traceback.print_exc()
            outcomes += [self._isolated(*each, attempts) for each in zip(photos[batch], pixels[batch], strict=True)]
        return outcomes

    def _isolated(self, photo: PartPhoto, pixels: NDArray[np.uint8], attempts: Attempts) -> Regions | str:
        """Returns the regions of one photo, or the reason why it is rejected."""
        try:
            with attempts.photo(photo["key"]):
                try:
                    return self._regions([pixels])[0]
                except UserError:
                    raise
                except (Exception, SystemExit):
                    self._exit_if_unusable()
                    raise
        except UserError:
            raise
        except PhotoError as error:
            return str(error)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a detector may raise anything
            return f"the detector fails on it ({_one_line(error)})"

    def _exit_if_unusable(self) -> None:
        """Ends the process if the detector no longer works on noise: Ray continues in another one."""
        try:
            self._regions([_noise()])
        except (Exception, SystemExit):  # noqa: BLE001 - a detector may raise anything
            traceback.print_exc()
            os._exit(1)

    def _regions(self, photos: list[NDArray[np.uint8]]) -> list[Regions]:
        """Runs the detector. Raises what it raises, and ValueError or TypeError for results that are not valid."""
        with process_deadline(self._deadline_s * len(photos)):
            found = self._detector(photos)
        if len(found) != len(photos):
            raise ValueError(f"{len(found)} results for {len(photos)} photos")
        for photo, regions in zip(photos, found, strict=True):
            check_regions(regions, photo.shape[:2], self._spec)
        return found


def _noise() -> NDArray[np.uint8]:
    """Returns an image on which every detector works."""
    return np.random.default_rng(0).integers(0, 256, (*SIZES[0], 3), dtype=np.uint8)


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _region_meta(regions: Regions) -> dict[str, Any]:
    """Returns the regions' part of a photo's `.json` member, with confidences rounded to four digits."""
    meta = {"classes": regions.classes.tolist(), "confidences": _rounded(regions.confidences)}
    if regions.attributes is not None and regions.attribute_confidences is not None:
        meta["attributes"] = regions.attributes.tolist()
        meta["attribute_confidences"] = _rounded(regions.attribute_confidences)
    return meta


def _rounded(values: NDArray[np.floating]) -> list[float]:
    return [round(float(value), 4) for value in values]


def _split_pixels(pixels: bytes, photos: list[PartPhoto]) -> list[NDArray[np.uint8]]:
    views, start = [], 0
    for photo in photos:
        size = int(np.prod(photo["shape"]))
        views.append(np.frombuffer(pixels, np.uint8, size, start).reshape(photo["shape"]))
        start += size
    assert start == len(pixels), f"{len(pixels) - start} bytes of pixels do not belong to a photo"
    return views


def use_assigned_cores() -> None:
    """Limits torch to the actor's cores: beside busy processes it is several times slower with more threads."""
    import ray

    is_actor = ray.is_initialized() and ray.get_runtime_context().get_actor_id() is not None
    if is_actor and "torch" in sys.modules:  # a detector may not use torch
        import torch

        cores = ray.get_runtime_context().get_assigned_resources().get("CPU", 1)
        torch.set_num_threads(max(1, int(cores)))
