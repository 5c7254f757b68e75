"""Checks of the files that MLflow adds to a registered version: what it loads, and which packages it installs."""

import re
from typing import Any

import yaml

from infra.errors import CorruptDataError
from infra.model_artifacts import StoredModel
from pipelines.lineage.report import Check, unreadable

_REQUIREMENTS, _CONDA, _VIRTUALENV = "requirements.txt", "conda.yaml", "python_env.yaml"
_LOADS = {
    "loader_module": "mlflow.pyfunc.loaders.code_model",  # "models from code": it reads no pickle
    "code": "code",
    "data": None,  # would name a folder with another MLmodel
    "env": {"conda": _CONDA, "virtualenv": _VIRTUALENV},
}
"""What MLmodel states of the pyfunc of every registered version."""
_ROOT = {
    *("MLmodel", "artifacts", "code", _REQUIREMENTS, _CONDA, _VIRTUALENV),
    *("input_example.json", "serving_input_example.json", "registered_model_meta"),
}
"""The content of the folder of a version, except its script."""
_INSTALLER = re.compile(r"(python|pip|setuptools|wheel)([=<>]+[\w.]+)?")
"""What environments have besides the requirements."""


def loader_check(model: StoredModel) -> Check:
    """Returns whether MLflow loads the script of the version, and finds no files that are not part of a version."""
    wrong = [
        f"{name} of its MLmodel is {found!r}, but a registered version has {expected!r}"
        for name, expected in _LOADS.items()
        if (found := model.flavor.get(name)) != expected
    ]
    try:
        script = model.script()
    except CorruptDataError as error:
        return unreadable(error)
    if added := sorted({path.name for path in model.root.iterdir()} - _ROOT - {script.name}):
        wrong.append(f"it has files that no registered version has: {', '.join(added)}")
    if wrong:
        return Check("broken", "; ".join(wrong))
    return Check("ok", f"its MLmodel loads {script.name}, and it has no other files")


def environment_check(model: StoredModel) -> Check:
    """Returns whether both environments that MLflow can build for the version install its requirements, and no more."""
    try:
        expected = {*requirements(model), f"-r {_REQUIREMENTS}"}
        for name in (_CONDA, _VIRTUALENV):
            if others := sorted(set(_packages(_read(model, name), name)) - expected):
                return Check("broken", f"its {name} installs {', '.join(others)}, which its {_REQUIREMENTS} does not")
    except CorruptDataError as error:
        return unreadable(error)
    return Check("ok", f"its {_CONDA} and {_VIRTUALENV} install its {_REQUIREMENTS}")


def requirements(model: StoredModel) -> list[str]:
    """Returns the lines of the requirements.txt of a version. Raises CorruptDataError if it cannot be read."""
    return _read(model, _REQUIREMENTS).splitlines()


def _read(model: StoredModel, name: str) -> str:
    try:
        return (model.root / name).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise CorruptDataError(f"{model.uri}: its {name} is missing or corrupt; use another version") from error


def _packages(text: str, name: str) -> list[str]:
    """Returns what an environment installs besides Python and its installers."""
    try:
        document: dict[str, Any] = yaml.safe_load(text)
        listed = [*document["dependencies"], *document.get("build_dependencies", ())]
        pip = [package for each in listed if isinstance(each, dict) for package in each["pip"]]
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise CorruptDataError(f"its {name} is corrupt ({' '.join(str(error).split())})") from error
    packages = [str(each) for each in [*listed, *pip] if not isinstance(each, dict)]
    return [package for package in packages if not _INSTALLER.fullmatch(package)]
