"""Scores images or regions against captions with a registered model. Part of the code that a version carries."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Lock
from typing import Any

import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

from infra.errors import LocationError, StorageError, StoreAccessError, UserError
from pipelines.datasets.decode import DecodedPhoto, PhotoError
from pipelines.datasets.http_download import SilentServers
from pipelines.models.artifacts import BUNDLE, DETECTOR
from pipelines.models.detection import ModelDetector, PhotoRegions
from pipelines.models.device import choose_device
from pipelines.models.images import read_image
from pipelines.models.pair_scores import PairScorer
from pipelines.models.params import Params
from pipelines.models.request import Request, read_request
from pipelines.models.tasks import TASKS
from shan_model.bundle import load_bundle
from shan_model.scoring import PRECISIONS

_DETECTED_AT_ONCE = 8
"""Images whose pixels are in memory at a time."""
_DETECTOR_FIX = "replace the image, or correct the detector, then extract, train and register again"
_log = logging.getLogger("shan_line")


class RegisteredMatcher:
    """Computes the tasks of `pipelines/models/tasks.py`. One prediction runs at a time.

    `artifacts` are the version's, by name. `model_config` replaces the locations of the detector's files.
    """

    def __init__(self, artifacts: Mapping[str, str], model_config: Mapping[str, Any] | None = None) -> None:
        self.shan = load_bundle(Path(artifacts[BUNDLE]))
        self.detector = ModelDetector(Path(artifacts[DETECTOR]), model_config or {})
        self._lock = Lock()

    def __getstate__(self) -> dict[str, Any]:
        """Returns what a copy (`copy.deepcopy`) takes: all but the lock."""
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Gives a copy a lock of its own."""
        vars(self).update(state, _lock=Lock())

    def predict(self, frame: pd.DataFrame, params: Mapping[str, Any] | None) -> list[float | None] | pd.DataFrame:
        """Returns the result of the task that `params` names (`Params`).

        Raises MlflowException, INVALID_PARAMETER_VALUE for input that cannot be used and TEMPORARILY_UNAVAILABLE for a
        disk or store that fails or cannot be reached. A server answers with status 400 and 503.
        """
        try:
            with self._lock, torch.inference_mode():
                return self._predict(frame, Params.of(params))
        except (StorageError, StoreAccessError) as error:
            raise MlflowException(str(error), TEMPORARILY_UNAVAILABLE) from error
        except UserError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error

    def _predict(self, frame: pd.DataFrame, params: Params) -> list[float | None] | pd.DataFrame:
        made_for = self.detector.stored.fingerprint
        if params.fingerprint not in ("", made_for):
            raise UserError(
                f"params: fingerprint is {params.fingerprint}, and this model was made for features of {made_for}; "
                "give features of that detector, or column image"
            )
        pairs = params.task in ("score", "explain")
        request = read_request(frame, self.shan.config.region_dim, pairs=pairs, raises=params.on_error == "raise")
        if params.task == "rank" and len(frame) and not request.problems and not (request.images and request.captions):
            raise UserError(
                f"params: task is rank, but the rows have {len(request.images)} images or regions and "
                f"{len(request.captions)} captions; give at least one of each"
            )
        device = choose_device(params.device, "params: device")
        self.shan.to(device)
        scorer = PairScorer(self.shan, request.captions, params.batch_size, PRECISIONS[params.precision])
        result = TASKS[params.task](request, scorer, self._batches(request, params.batch_size, device), params)
        if request.problems:
            first = request.problems[min(request.problems)]
            _log.warning("%d of %d rows cannot be used; the first: %s", len(request.problems), len(frame), first)
        return result

    def _batches(
        self, request: Request, batch_size: int, device: str
    ) -> Iterator[tuple[list[int], list[PhotoRegions]]]:
        """Yields the images and their regions, `batch_size` at a time; reports images that cannot be used."""
        used = sorted(set(request.image_of_row.tolist()) - {-1})
        if any(not isinstance(request.images[image], PhotoRegions) for image in used):
            self.detector.require(device)
        servers = SilentServers()
        for start in range(0, len(used), batch_size):
            found = dict(self._regions(request, used[start : start + batch_size], device, servers))
            if found:
                images = sorted(found)
                yield images, [found[image] for image in images]

    def _regions(
        self, request: Request, images: list[int], device: str, servers: SilentServers
    ) -> Iterator[tuple[int, PhotoRegions]]:
        """Yields the regions of those images that can be used."""
        decoded: dict[int, DecodedPhoto] = {}
        for image in images:
            given = request.images[image]
            if isinstance(given, PhotoRegions):
                yield image, given
                continue
            try:
                decoded[image] = read_image(given, servers)
            except PhotoError as error:
                request.fail_image(image, f"{error}; correct the path or replace the image")
            except LocationError as error:
                request.fail_image(image, str(error))
            except (UserError, StorageError) as error:  # a store refuses or fails; other rows would fail likewise
                raise type(error)(f"row {request.first_row(image)}, column image: {error}") from error
            if len(decoded) == _DETECTED_AT_ONCE:
                yield from self._detected(request, decoded, device)
                decoded = {}
        yield from self._detected(request, decoded, device)

    def _detected(
        self, request: Request, photos: Mapping[int, DecodedPhoto], device: str
    ) -> Iterator[tuple[int, PhotoRegions]]:
        regions = self.detector(list(photos.values()), device) if photos else []
        for image, found in zip(photos, regions, strict=True):
            if isinstance(found, str):
                request.fail_image(image, f"{found}; {_DETECTOR_FIX}")
            else:
                yield image, found
