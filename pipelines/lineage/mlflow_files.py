"""Checks of the files that MLflow adds to a registered version: what it loads, and which packages it installs."""

import re
from typing import Any

import yaml

from infra.errors import CorruptDataError
from infra.model_artifacts import StoredModel
from infra.paths import is_file
from infra.redaction import redact
from pipelines.lineage.bytecode import FOLDER, changed_bytecode
from pipelines.lineage.report import Check, unreadable
from pipelines.models.artifacts import BUNDLE, DETECTOR
from shan_model.bundle import FILES, TEXT_ENCODER

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
    *("input_example.json", "serving_input_example.json", "registered_model_meta", FOLDER),
}
"""The content of the folder of a version, except its script."""
_TOKENIZER = (".json", ".txt", ".jinja", ".model")
"""Endings of the files that releases of transformers write for a tokenizer; none of them is code or a pickle."""
_INSTALLER = re.compile(r"(python|pip|setuptools|wheel)([=<>]+[\w.]+)?")
"""What environments have besides the requirements."""
_PACKAGES = {"name", "python", "dependencies", "build_dependencies"}
_SOURCES: dict[str, dict[str, Any]] = {_CONDA: {"channels": ["conda-forge"]}, _VIRTUALENV: {}}
"""What the environments state besides names, packages and versions: from where conda installs."""


def loader_check(model: StoredModel) -> Check:
    """Returns whether MLflow loads the script of the version, and finds no files that are not part of a version."""
    wrong = [
        f"{name} of its MLmodel is {found!r}, but a registered version has {expected!r}"
        for name, expected in _LOADS.items()
        if (found := model.flavor.get(name)) != expected
    ]
    try:
        script = model.script()
        added = sorted({path.name for path in model.root.iterdir()} - _ROOT - {script.name}) + _added_artifacts(model)
    except CorruptDataError as error:
        return unreadable(error)
    if added:
        wrong.append(f"it has files that no registered version has: {', '.join(added)}")
    changed, unknown = changed_bytecode(model.root)
    if changed:
        wrong.append(f"it has bytecode that is not compiled from its code: {', '.join(changed)}")
    if wrong:
        return Check("broken", "; ".join(wrong))
    if unknown:
        fix = "trace it with that version, or delete these files"
        return Check("not checked", f"it has bytecode of another version of Python: {', '.join(unknown)}; {fix}")
    return Check("ok", f"its MLmodel loads {script.name}, and it has no other files")


def _added_artifacts(model: StoredModel) -> list[str]:
    """Returns the files in the folder of the artifacts that are neither of the bundle nor below the detector."""
    bundle, detector = model.artifact(BUNDLE), model.artifact(DETECTOR)
    known = {bundle / name for name in FILES}
    known |= {path for path in (bundle / TEXT_ENCODER).glob("*") if path.suffix in _TOKENIZER}
    files = [path for path in (model.root / "artifacts").rglob("*") if is_file(path)]
    added = [path for path in files if path not in known and not path.is_relative_to(detector)]
    return sorted(path.relative_to(model.root).as_posix() for path in added)


def environment_check(model: StoredModel) -> Check:
    """Returns whether both environments that MLflow can build for the version install its requirements, and no more."""
    try:
        expected = {*requirements(model), f"-r {_REQUIREMENTS}"}
        for name, sources in _SOURCES.items():
            document = _environment(model, name)
            if others := sorted(set(_packages(document, name)) - expected):
                return Check("broken", f"its {name} installs {', '.join(others)}, which its {_REQUIREMENTS} does not")
            if (found := {key: document[key] for key in document.keys() - _PACKAGES}) != sources:
                stated = redact(str(found))
                return Check("broken", f"its {name} states {stated}, but that of a registered version {sources}")
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


def _environment(model: StoredModel, name: str) -> dict[str, Any]:
    try:
        document = yaml.safe_load(_read(model, name))
    except yaml.YAMLError as error:
        raise _corrupt(name, error) from error
    if not isinstance(document, dict):
        raise _corrupt(name, "not a mapping")
    return document


def _packages(document: dict[str, Any], name: str) -> list[str]:
    """Returns what an environment installs besides Python and its installers."""
    try:
        listed = [*document["dependencies"], *document.get("build_dependencies", ())]
        pip = [package for each in listed if isinstance(each, dict) for package in each["pip"]]
    except (KeyError, TypeError) as error:
        raise _corrupt(name, error) from error
    packages = [str(each) for each in [*listed, *pip] if not isinstance(each, dict)]
    return [package for package in packages if not _INSTALLER.fullmatch(package)]


def _corrupt(name: str, why: object) -> CorruptDataError:
    return CorruptDataError(f"its {name} is corrupt ({' '.join(str(why).split())})")
