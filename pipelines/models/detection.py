"""The detector of a registered model: how it is stored beside the model, and how images become regions.

The artifact DETECTOR is a folder with DETECTOR_FILE and, if the detector is carried, the files that its settings name
(its weights). Built-in detectors come with the model's code. A plugin does if it is carried; its module is then in the
package of that code.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from infra.canonical_json import load_object
from infra.errors import StorageError, StoreAccessError, UserError
from pipelines.datasets.decode import DecodedPhoto
from pipelines.detectors import registry
from pipelines.detectors.contract import DetectorSpec, Regions, check_regions
from pipelines.detectors.stored_arrays import stored_arrays

FORMAT = "shan-detector/1"
"""Format version of DETECTOR_FILE. Files of early 0.2 have none and are of version 1."""
DETECTOR_FILE = "detector.json"
"""File of the artifact DETECTOR that describes the detector."""


@dataclass(frozen=True)
class StoredDetector:
    """The content of `detector.json`."""

    name: str
    """Name of a built-in detector, or import path of a plugin."""
    fingerprint: str
    mode: Literal["carry", "reference", "none"]
    """`none`: the model was trained on features that no detector of the project made."""
    settings: Mapping[str, Any]
    files: Sequence[str]
    """The settings that are files: names in this folder if the detector is carried, else paths or URIs."""
    class_names: Mapping[str, str]
    """Name of each class id."""
    weights_licence: str = ""
    """Licence of the weights; empty if the detector does not state it."""

    def write(self, folder: Path) -> None:
        """Writes the file into the folder of the artifact."""
        document = {"format": FORMAT, **asdict(self)}
        (folder / DETECTOR_FILE).write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    def files_in(self, folder: Path) -> dict[str, str]:
        """Returns the locations of carried files by setting, given the folder of the artifact."""
        return {field: str(folder / self.settings[field]) for field in self.files if self.mode == "carry"}

    @classmethod
    def read(cls, folder: Path) -> "StoredDetector":
        """Reads the file of the artifact. Raises UserError if it has another format."""
        document = load_object((folder / DETECTOR_FILE).read_bytes())
        if (found := document.pop("format", FORMAT)) != FORMAT:
            raise UserError(
                f"{folder / DETECTOR_FILE}: format is {found!r}, but this release reads {FORMAT!r}; use the release of "
                "this project that registered the model"
            )
        return cls(**document)


@contextmanager
def _threads_of_extraction(device: str) -> Iterator[None]:
    """Runs torch on a CPU with one thread, the default of an extraction: with more, the last bits of sums differ."""
    import torch

    threads = torch.get_num_threads()
    if device == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class PhotoRegions:
    """The regions of one photo as a feature set has them."""

    features_RF: NDArray[Any]
    """Finite numbers; float16 from a detector."""
    boxes_R4: NDArray[np.float32] | None = None
    """x0 y0 x1 y1 in pixels of the upright photo."""
    classes: Sequence[str] | None = None
    """Name of the class of each region."""


class MissingDetectorError(UserError):
    """A model that was registered without a detector."""


class ModelDetector:
    """Detects regions with the detector that made the model's training features. It is built when first used."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """Takes the folder of the artifact, and settings (locations of files) that replace the stored ones."""
        self.stored = StoredDetector.read(folder)
        self._folder, self._settings = folder, settings
        self._spec: DetectorSpec | None = None
        self._built: dict[str, Any] = {}

    def require(self, device: str) -> None:
        """Builds the detector on a device. Raises UserError with the fix if that is impossible."""
        if self._spec is None:
            self._spec = self._resolve()
        if device not in self._built:
            try:
                self._built[device] = self._spec.build(device)
            except (StorageError, StoreAccessError):  # the files may be intact
                raise
            except (Exception, SystemExit) as error:
                raise self._unavailable(str(error)) from error

    def __call__(self, photos: Sequence[DecodedPhoto], device: str) -> list[PhotoRegions | str]:
        """Returns the regions of each photo, or the reason why it has none. Call `require` before."""
        pixels = [photo.pixels for photo in photos]
        with _threads_of_extraction(device):
            try:
                found: list[Regions | str] = list(self._built[device](pixels))
                is_complete = len(found) == len(photos)
            except (Exception, SystemExit):  # noqa: BLE001 - detectors raise anything; the photo is found below
                is_complete = False
            if not is_complete:
                found = [self._detect_one(photo, device) for photo in pixels]
        return [
            regions if isinstance(regions, str) else self._stored(regions, photo)
            for regions, photo in zip(found, photos, strict=True)
        ]

    def _detect_one(self, pixels: NDArray[np.uint8], device: str) -> Regions | str:
        try:
            (regions,) = self._built[device]([pixels])
        except (Exception, SystemExit) as error:  # noqa: BLE001 - detectors raise anything
            return f"the detector fails ({type(error).__name__}: {error})"
        return regions

    def _stored(self, regions: Regions, photo: DecodedPhoto) -> PhotoRegions | str:
        """Returns regions as the extraction stores them."""
        height, width, _ = photo.pixels.shape
        assert self._spec is not None
        try:
            check_regions(regions, (height, width), self._spec)
        except (ValueError, TypeError, AttributeError) as error:
            return f"the detector breaks its contract ({error})"
        features_RF, boxes_R4 = stored_arrays(regions, (width, height), (photo.width, photo.height))
        if not np.isfinite(features_RF).all():
            return "its features are beyond float16 (65504)"
        names = self.stored.class_names
        return PhotoRegions(features_RF, boxes_R4, [names.get(str(id_), str(id_)) for id_ in regions.classes.tolist()])

    def _resolve(self) -> DetectorSpec:
        stored = self.stored
        if stored.mode == "none":
            raise MissingDetectorError(
                f"this model has no detector, because it was trained on imported features ({stored.fingerprint}); "
                "give column regions instead of image"
            )
        settings = {**stored.settings, **self._settings, **stored.files_in(self._folder)}
        name = stored.name
        if stored.mode == "carry" and registry.is_plugin(name):
            name = f"{__name__.removesuffix('pipelines.models.detection')}{name}"
        try:
            spec = registry.resolve(name, settings)
            found = registry.fingerprint(name, spec)
        except StoreAccessError:
            raise
        except UserError as error:
            raise self._unavailable(str(error)) from error
        if found != stored.fingerprint:
            raise self._unavailable(f"it has the fingerprint {found}")
        return spec

    def _unavailable(self, reason: str) -> UserError:
        stored = self.stored
        if stored.mode == "carry":
            fix = "install the packages of the model's requirements.txt"
        elif stored.files:
            fields = ", ".join(f'"{field}": PATH' for field in stored.files)
            fix = f"point to its files with load_model(..., model_config={{{fields}}})"
        else:
            fix = f"install the package that has {stored.name}"
        return UserError(
            f"detector {stored.name} of this model ({stored.fingerprint}) cannot be used ({reason}); {fix}, or give "
            "column regions instead of image"
        )
