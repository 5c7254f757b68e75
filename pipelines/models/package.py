"""The content of stored models: what a registered version contains, and which files of a checkpoint are its model.

A registered version is an MLflow pyfunc (pipelines/models/pyfunc.py). It carries its code (carried_code.py), the model
bundle (shan_model/bundle.py) and the detector of its training features (detection.py). Its lineage, what it stores of
the detector, and the digests of all these files (digests.py) are the pyfunc's metadata and the version's tags. A
checkpoint folder is a model bundle with the file LINEAGE beside it. The bundle carries the format version of both.
"""

from collections.abc import Collection, Mapping
from functools import cache
from importlib.metadata import packages_distributions, version
from pathlib import Path

from infra.model_artifacts import PyfuncPackage
from pipelines.models.artifacts import BUNDLE, DETECTOR
from pipelines.models.carried_code import carry_code
from pipelines.models.detector_package import DetectorPackage
from pipelines.models.digests import (
    BUNDLE_SHA256,
    CODE_SHA256,
    DETECTOR_SHA256,
    REQUIREMENTS_SHA256,
    bundle_digest,
    code_digest,
    detector_digest,
    requirements_digest,
)
from shan_model.config import ModelConfig

LINEAGE = "lineage.json"
"""File of a checkpoint: the lineage of the feature set on which the model was trained, as a JSON object."""


def package_model(
    bundle: Path, config: ModelConfig, lineage: dict[str, str], detector: DetectorPackage, folder: Path
) -> PyfuncPackage:
    """Returns the parts of a registered version of the model in the folder `bundle`.

    `config` is the model's. The code and the detector's files are written into `folder`.
    """
    from pipelines.models.signature import input_example, signature

    code = carry_code(folder, detector.modules, detector.roots)
    requirements = _requirements(code.third_party, config.text_encoder)
    detector_folder, stored = detector.write(folder / DETECTOR), detector.stored
    digests = {
        BUNDLE_SHA256: bundle_digest(bundle),
        CODE_SHA256: code_digest(code.script, code.package),
        DETECTOR_SHA256: detector_digest(detector_folder),
        REQUIREMENTS_SHA256: requirements_digest(requirements),
    }
    return PyfuncPackage(
        code=code.script,
        package=code.package,
        artifacts={BUNDLE: bundle, DETECTOR: detector_folder},
        signature=signature(),
        input_example=input_example(config.region_dim, takes_images=stored.mode == "carry"),
        requirements=requirements,
        model_config={field: stored.settings[field] for field in stored.files} if stored.mode == "reference" else {},
        metadata=lineage | detector.tags | digests,
    )


def _requirements(importers: Mapping[str, Collection[str]], text_encoder: str) -> list[str]:
    """Returns the packages that load a registered model, at the installed versions (without torch's build tag).

    `importers` maps top-level modules to the modules that import them.
    """
    unused = set() if text_encoder == "hf" else {"shan_model.hf_encoder"}
    needed = [module for module, by in importers.items() if not set(by) <= unused]
    providers = _providers()
    packages = {
        name
        for module in needed
        for name in ([module] if module in providers.get(module, ()) else providers.get(module, ()))
    }
    return sorted(f"{package}=={version(package).split('+')[0]}" for package in packages)


@cache
def _providers() -> Mapping[str, Collection[str]]:
    """Returns the packages that provide each top-level module. Cached, because it reads the files of all packages."""
    return packages_distributions()
