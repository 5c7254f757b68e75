"""The detector of the served model in a process: photos of clients become regions."""

import asyncio
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import infra.tracking
from infra.errors import StorageError, StoreAccessError, UserError
from infra.process_deadline import process_deadline
from infra.storage.process_folder import ProcessFolder
from infra.tracking import TrackingConfig
from pipelines.datasets.decode import PhotoError, decode_photo
from pipelines.datasets.http_download import DownloadLimits, SilentServers
from pipelines.datasets.photo_sources import read_photo
from pipelines.datasets.read_photos import READERS
from pipelines.models.detection import MissingDetectorError
from pipelines.models.load import load_detector
from pipelines.service.config import ServiceConfig
from pipelines.service.errors import ServiceError
from pipelines.service.events import traced
from pipelines.service.generation import FOLDERS, Generation

AGAIN_S = 60.0
"""Seconds after which a detector that cannot be used is tried again."""
HANGING = 3
"""Multiple of a request's deadline after which the detector hangs, and its process ends; Ray Serve starts another."""


class PhotoDetector:
    """The Ray Serve deployment."""

    def __init__(self, generation: Generation, tracking: TrackingConfig, config: ServiceConfig) -> None:
        """A model without a detector that can be used here is served, too; `detect` states the reason."""
        self._folder = ProcessFolder(FOLDERS)  # weights are read when the detector is built
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        self._model, self._device, self._deadline_s = generation.model, config.device, config.deadline_s
        self._limits = DownloadLimits(
            attempts=2, deadline_s=config.deadline_s, silence_s=config.deadline_s / 3, sources=config.image_sources
        )
        self._tracking = infra.tracking.require_store(tracking)
        self._thread, self._readers = ThreadPoolExecutor(1), ThreadPoolExecutor(READERS)
        self._servers = SilentServers()
        self._load()

    def __del__(self) -> None:
        """Removes the files; Ray Serve calls this before it kills the process."""
        self._folder.remove()

    @traced
    async def detect(self, image: bytes | str) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Returns the region features R x F and boxes R x 4 of a photo, given its bytes, or a URI that is allowed.

        Raises ServiceError for one that cannot be read, decoded or used.
        """
        loop, field = asyncio.get_running_loop(), "image_uri" if isinstance(image, str) else "image"
        try:
            if isinstance(image, str):
                image = await loop.run_in_executor(self._readers, self._read, image)
            return await loop.run_in_executor(self._thread, self._detect, image, field)
        except PhotoError as error:
            raise ServiceError(400, f"{field} cannot be used ({error}); send a photo, such as a JPEG", field) from error

    def _load(self) -> None:
        self._problem: UserError | StorageError | None
        self._problem, self._again_at = None, time.monotonic() + AGAIN_S
        try:
            self._detector = load_detector(self._tracking, self._model, self._folder.path)
            self._detector.require(self._device)
        except (UserError, StorageError) as error:
            self._problem = error

    def _read(self, uri: str) -> bytes:
        """Returns the bytes of a photo, within the deadline of a request if a web server has it."""
        try:
            with self._servers.photo(uri):
                return read_photo(uri, self._limits)
        except (StoreAccessError, OSError) as error:  # the client's photo may be intact
            raise ServiceError(503, "the store of image_uri cannot be read; try again", "image_uri", uri, 5) from error
        except UserError as error:
            raise PhotoError(f"{uri[:200]}: {error}") from error

    def _detect(self, image: bytes, field: str) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Decodes a photo and runs the detector, in the detector's thread."""
        if self._problem is not None and time.monotonic() > self._again_at:
            self._load()
        if self._problem is not None:
            raise _unusable(self._problem, field)
        with process_deadline(HANGING * self._deadline_s):
            (regions,) = self._detector([decode_photo(image)], self._device)
        if isinstance(regions, str):
            raise ServiceError(422, f"{field} cannot be used ({regions}); send another photo", field)
        boxes_R4 = np.empty((0, 4), np.float32) if regions.boxes_R4 is None else regions.boxes_R4
        return regions.features_RF, boxes_R4


def _unusable(problem: UserError | StorageError, field: str) -> ServiceError:
    """Returns the error of a photo that the detector cannot process: the client's only if the model never has one."""
    message = f"photos cannot be used: {problem}; search by sentence"
    if isinstance(problem, MissingDetectorError):
        return ServiceError(422, message, field)
    return ServiceError(503, message)  # without Retry-After, for which the search page would wait and show no reason
