"""The detector of the served model in a process: photos of clients become regions."""

import asyncio
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import infra.tracking
from infra.errors import UserError
from infra.tracking import TrackingConfig
from pipelines.datasets.decode import PhotoError
from pipelines.models.images import read_image
from pipelines.models.load import load_detector
from pipelines.service.errors import ServiceError
from pipelines.service.generation import Generation


class PhotoDetector:
    """The Ray Serve deployment."""

    def __init__(self, generation: Generation, tracking: TrackingConfig, device: str) -> None:
        """A model without a detector that can be used here is served, too; `detect` states the reason."""
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        self._device, self._thread = device, ThreadPoolExecutor(1)
        self._folder = tempfile.TemporaryDirectory()  # its weights are read when it is built
        self._problem = ""
        try:
            connected = infra.tracking.require_store(tracking)
            self._detector = load_detector(connected, generation.model, Path(self._folder.name))
            self._detector.require(device)
        except UserError as error:
            self._problem = str(error)

    async def detect(self, image: bytes | str) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Returns the region features R x F and boxes R x 4 of a photo, given its bytes, or a URI that is allowed.

        Raises ServiceError for one that cannot be read, decoded or used.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._detect, image)

    def _detect(self, image: bytes | str) -> tuple[NDArray[Any], NDArray[np.float32]]:
        field = "image_uri" if isinstance(image, str) else "image"
        if self._problem:
            raise ServiceError(422, f"photos cannot be used: {self._problem}; search by sentence", field)
        try:
            photo = read_image(image)
        except PhotoError as error:
            raise ServiceError(400, f"{field} cannot be used ({error}); send a photo, such as a JPEG", field) from error
        (regions,) = self._detector([photo], self._device)
        if isinstance(regions, str):
            raise ServiceError(422, f"{field} cannot be used ({regions}); send another photo", field)
        boxes_R4 = np.empty((0, 4), np.float32) if regions.boxes_R4 is None else regions.boxes_R4
        return regions.features_RF, boxes_R4
