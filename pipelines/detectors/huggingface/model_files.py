"""The files of a Hugging Face model: a folder, or a hub name whose files each node fetches once into its cache.

Only config, preprocessing and safetensors are fetched and read, never a pickle or code. Light to import.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from infra.canonical_json import load_object
from infra.errors import UserError
from infra.hub import fetch_snapshot
from infra.paths import explained, is_dir, is_file, local_path

_FIELD = "extract.detector_settings: model"
_HUB_NAME = re.compile(r"([\w.-]+(?:/[\w.-]+)?)@([\w./-]+)")
"""A name and its revision: a branch, a tag or a commit."""
_CONFIG = "config.json"
_PROCESSORS = ("preprocessor_config.json", "processor_config.json")
_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_PART = "model-?????-of-?????.safetensors"
_PART_NAME = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def pinned_model(model: Any) -> str:
    """Returns the absolute path of a folder, or a hub name with its commit, `name@commit`.

    The files of a hub name are fetched. Raises UserError for anything else, and if they cannot be fetched.
    """
    if isinstance(model, str) and (model.startswith(("/", ".", "~")) or ":/" in model or is_dir(Path(model))):
        return str(local_path(model, _FIELD))
    if isinstance(model, str) and (found := _HUB_NAME.fullmatch(model)):
        return f"{found[1]}@{fetch_model(model).name}"
    raise UserError(
        f"{_FIELD} is {model!r}, which is neither a folder here nor a hub name with a revision; give a folder, or "
        "a name such as PekingU/rtdetr_r50vd@main"
    )


def fetch_model(model: str) -> Path:
    """Returns the folder with the files of a model on this node; those of a hub name that its cache lacks are fetched.

    The folder of a hub name is named by its commit. Raises UserError if they cannot be fetched.
    """
    if model.startswith("/"):
        return Path(model)
    require_transformers()
    name, _, revision = model.partition("@")
    patterns = [_CONFIG, *_PROCESSORS, _WEIGHTS, _INDEX, _PART]
    try:
        return fetch_snapshot(name, revision, patterns)
    except Exception as error:  # the library's own, those of HTTP and of the disk
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{_FIELD} {model}: it cannot be fetched from the hub ({reason}); check name, revision, network and "
            f"HF_TOKEN, or fill the cache of each node: hf download {name} --revision {revision}"
        ) from error


def file_names(folder: Path, model: str) -> list[str]:
    """Returns the names of the files of a model that determine its results, in order.

    Raises UserError naming `model` if one is missing, or if the weights are not safetensors.
    """
    shown = f"{_FIELD} {model}"
    if not is_dir(folder):
        raise UserError(f"{shown}: the folder does not exist; give one that exists on every node, or a hub name")
    processors = [name for name in _PROCESSORS if is_file(folder / name)]
    if not is_file(folder / _CONFIG) or not processors:
        missing = _PROCESSORS[0] if is_file(folder / _CONFIG) else _CONFIG
        raise UserError(f"{shown}: it has no {missing}; save model and image processor with save_pretrained")
    names = [_CONFIG, *processors, *_weight_names(folder, shown)]
    for name in names:
        if not is_file(folder / name):
            raise UserError(f"{shown}: {name} is missing; download or save the model again")
    return names


def sha256_of(path: Path) -> str:
    """Returns the sha256 of a file as hexadecimal digits. Raises UserError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); restore the file or its permissions") from error


def require_transformers() -> Any:
    """Returns the module `transformers`; raises UserError if it is not installed."""
    try:
        import transformers
    except ImportError as error:
        raise UserError(
            "the detectors huggingface and huggingface_patches need the package transformers; install it: "
            "pip install 'shan-line[hf]'"
        ) from error
    return transformers


def _weight_names(folder: Path, shown: str) -> list[str]:
    if is_file(folder / _WEIGHTS):
        return [_WEIGHTS]
    if not is_file(folder / _INDEX):
        pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
        found = f", only {pickles[0]}, a pickle, which could run code" if pickles else ""
        raise UserError(
            f"{shown}: it has no {_WEIGHTS}{found}; "
            "give a revision with safetensors, or load the model where you trust it and save it with save_pretrained"
        )
    try:
        with explained(folder / _INDEX):
            index = (folder / _INDEX).read_bytes()
        parts = sorted(set(load_object(index)["weight_map"].values()))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{shown}: {_INDEX} is corrupt ({error}); download or save the model again") from error
    if not parts or not all(isinstance(part, str) and _PART_NAME.fullmatch(part) for part in parts):
        raise UserError(f"{shown}: {_INDEX} names files other than {_PART}; download or save the model again")
    return [_INDEX, *parts]
