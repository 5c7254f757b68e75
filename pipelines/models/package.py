"""The layout of stored models: what a registered version contains, and which files of a checkpoint are its model.

A registered version is an MLflow pyfunc (pipelines/models/pyfunc.py). It carries its code (carried_code.py) and the
model bundle (shan_model/bundle.py) as the artifact BUNDLE; its lineage is the pyfunc's metadata and the version's tags.
A checkpoint folder is a model bundle with the file LINEAGE beside it. The bundle carries the format version of both.
"""

from collections.abc import Collection
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import TYPE_CHECKING

from infra.registry import PyfuncPackage
from pipelines.models.carried_code import carry_code

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

BUNDLE = "bundle"
"""Name of the bundle among the artifacts of a registered version."""
LINEAGE = "lineage.json"
"""File of a checkpoint: the lineage of the feature set on which the model was trained, as a JSON object."""


def package_model(bundle: Path, lineage: dict[str, str], text_encoder: str, folder: Path) -> PyfuncPackage:
    """Returns the parts of a registered version of the model in the folder `bundle`; writes its code into `folder`.

    `text_encoder` is the model's `ModelConfig.text_encoder`, on which the required packages depend.
    """
    code = carry_code(Path(__file__).with_name("pyfunc.py"), folder)
    return PyfuncPackage(
        code=code.script,
        package=code.package,
        artifacts={BUNDLE: bundle},
        signature=_signature(),
        requirements=_requirements(code.third_party, text_encoder),
        metadata=lineage,
    )


def _signature() -> "ModelSignature":
    """Returns the signature: columns `regions` (R x F) and `caption` in, one score per row out."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema
    from mlflow.types.schema import Array, DataType

    regions = ColSpec(Array(Array(DataType.double)), "regions")  # accepts float32 as well
    return ModelSignature(
        inputs=Schema([regions, ColSpec(DataType.string, "caption")]), outputs=Schema([ColSpec(DataType.double)])
    )


def _requirements(modules: Collection[str], text_encoder: str) -> list[str]:
    """Returns the packages that load a registered model, at the installed versions (without torch's build tag)."""
    needed = set(modules) - ({"transformers"} if text_encoder != "hf" else set())
    providers = packages_distributions()
    packages = {
        name
        for module in needed
        for name in ([module] if module in providers.get(module, ()) else providers.get(module, ()))
    }
    return sorted(f"{package}=={version(package).split('+')[0]}" for package in packages)
