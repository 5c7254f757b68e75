"""pipelines/models/package.py."""

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import shan_model
from infra.registry import PyfuncPackage
from pipelines.models.load import BUNDLE

if TYPE_CHECKING:
    from mlflow.models import ModelSignature


def package_model(bundle: Path, lineage: dict[str, str], text_encoder: str) -> PyfuncPackage:
    """What is registered: the pyfunc's code, `shan_model`, the model bundle and its lineage."""
    return PyfuncPackage(
        code=Path(__file__).with_name("pyfunc.py"),
        package=Path(shan_model.__file__).parent,
        artifacts={BUNDLE: bundle},
        signature=_signature(),
        requirements=_requirements(text_encoder),
        metadata=lineage,
    )


def _signature() -> "ModelSignature":
    """Rows of `regions` (R x F) and `caption` in, one score a row out."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema
    from mlflow.types.schema import Array, DataType

    regions = ColSpec(Array(Array(DataType.double)), "regions")  # takes float32 as well
    return ModelSignature(
        inputs=Schema([regions, ColSpec(DataType.string, "caption")]), outputs=Schema([ColSpec(DataType.double)])
    )


def _requirements(text_encoder: str) -> list[str]:
    """What loads a registered model, at the versions it was trained with (without torch's build tag)."""
    packages = [
        "mlflow",
        "numpy",
        "pandas",
        "safetensors",
        "torch",
        *(["transformers"] if text_encoder == "hf" else []),
    ]
    return [f"{package}=={version(package).split('+')[0]}" for package in packages]
