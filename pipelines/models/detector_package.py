"""What a registered version stores of the detector that made its training features."""

import importlib.util
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from infra.errors import UserError
from infra.storage.open import open_store
from infra.storage.process_folder import temporary_folder
from pipelines.detectors import registry
from pipelines.features.index import DetectorDescription
from pipelines.models.carried_code import PROJECT, carry_code
from pipelines.models.config import RegisterConfig
from pipelines.models.detection import StoredDetector

MAX_LICENCE = 200
"""Longest licence that a detector states, in characters."""


@dataclass(frozen=True)
class DetectorPackage:
    """A detector to be stored in a registered version."""

    stored: StoredDetector
    modules: tuple[str, ...]
    """Modules that the version's code has to include."""
    roots: Mapping[str, Path]
    """The folder that holds each top-level package of the modules."""
    folders: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    """The files to store for each setting that is a folder, if the detector is carried."""

    @property
    def tags(self) -> dict[str, str]:
        """What the version's tags state of it."""
        stored = self.stored
        return {
            "detector.name": stored.name,
            "detector.mode": stored.mode,
            "detector.licence": stored.weights_licence,
        }

    def write(self, folder: Path) -> Path:
        """Writes the artifact into `folder`, with the files of a carried detector, and returns it."""
        folder.mkdir(parents=True, exist_ok=True)
        settings = dict(self.stored.settings)
        if self.stored.mode == "carry":
            for name in self.stored.files:
                root, _, last = str(settings[name]).rpartition("/")
                settings[name] = f"{name}-{last}"
                if name not in self.folders:
                    (folder / settings[name]).write_bytes(open_store(root or "/").read(last))
                    continue
                (folder / settings[name]).mkdir()
                for path in self.folders[name]:
                    shutil.copyfile(path, folder / settings[name] / path.name)
        replace(self.stored, settings=settings).write(folder)
        return folder


def detector_package(description: DetectorDescription, fingerprint: str, config: RegisterConfig) -> DetectorPackage:
    """Returns what is stored of a feature set's detector. Reads the weights of a detector that is carried.

    Raises UserError if the detector has to be carried and is not available here, is not the one that made the features,
    or has code that cannot be carried.
    """
    name = description.name
    names = {str(id_): text for id_, text in description.class_names.items()}
    stored = StoredDetector(name, fingerprint, "none", description.settings, [], names)
    if name not in registry.names() and not registry.is_plugin(name):  # imported features
        return DetectorPackage(stored, (), PROJECT)
    mode = "carry" if name == "embedded" else config.detector
    fix = "make it available here, or set register.detector to reference"
    try:
        spec = registry.resolve(name, description.settings)
        found = registry.fingerprint(name, spec) if mode == "carry" else fingerprint
    except UserError as error:
        if mode == "carry":
            raise UserError(f"the model cannot carry its detector: {error}; {fix}") from error
        return DetectorPackage(replace(stored, mode=mode), (), PROJECT)
    if found != fingerprint:
        raise UserError(
            f"the model cannot carry its detector: {name} with the settings of the feature set has the fingerprint "
            f"{found} here, and the features have {fingerprint}; extract again, or set register.detector to reference"
        )
    files = [setting for setting in getattr(spec, "files", ()) if getattr(spec, setting)]
    settings = {**description.settings, **{setting: getattr(spec, setting) for setting in files}}
    stored = replace(stored, mode=mode, settings=settings, files=files, weights_licence=_licence(name, spec))
    if mode == "reference" and registry.is_plugin(name):
        return DetectorPackage(stored, (), PROJECT)
    module = registry.spec_module(name)
    folders = getattr(spec, "folders", {}) if mode == "carry" else {}
    package = DetectorPackage(stored, (module,), {**PROJECT, **_root_of(module)}, folders)
    if registry.is_plugin(name):
        with temporary_folder("shan-detector-") as folder:
            carry_code(folder, package.modules, package.roots)  # raises for a module that cannot be carried
    return package


def _licence(name: str, spec: object) -> str:
    """Returns the licence of a detector's weights in one line, as tags and model cards show it. Raises UserError."""
    stated = getattr(spec, "weights_licence", "")
    if not isinstance(stated, str) or len(stated) > MAX_LICENCE:
        found = f"{len(stated)} characters" if isinstance(stated, str) else f"the type {type(stated).__name__}"
        raise UserError(
            f"weights_licence of detector {name} has {found}; give the name or the URL of the licence, at most "
            f"{MAX_LICENCE} characters"
        )
    return " ".join(stated.split())


def _root_of(module: str) -> dict[str, Path]:
    """Returns the top-level package of a module, and the folder that holds it."""
    package = module.split(".")[0]
    found = importlib.util.find_spec(package)
    assert found is not None, f"{module} was imported"
    assert found.origin is not None, f"{package} is a namespace package"
    file = Path(found.origin)
    return {package: file.parent.parent if found.submodule_search_locations else file.parent}
