"""Reads the checkpoint and validates it: it must contain exactly the tensors of `checkpoint_shapes`."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from infra.errors import UserError
from pipelines.detectors.bottom_up.checkpoint_keys import COUNTERS, checkpoint_shapes

_NAMED_KEYS = 3
"""Number of keys that an error message names."""


def read_checkpoint(data: bytes, uri: str) -> dict[str, Tensor]:
    """Returns the float32 tensors of a checkpoint file by key, without the counters.

    The suffix of `uri` selects the format: `.safetensors`, otherwise a file written by torch.save. Raises UserError
    naming `uri` if the file cannot be read or if keys or shapes differ from `checkpoint_shapes`.
    """
    tensors = load_tensors(data, uri)
    check_keys(tensors, uri)
    return {name: tensor.float() for name, tensor in tensors.items() if not name.endswith(COUNTERS)}


def load_tensors(data: bytes, uri: str) -> dict[str, Tensor]:
    """Returns all tensors of a file by key; a torch file must contain a state dict, possibly under the key "model".

    Loading runs no code from the file (`weights_only`). Raises UserError naming `uri` if the file cannot be read.
    """
    try:
        if uri.endswith(".safetensors"):
            return safetensors.torch.load(data)
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).strip().partition("\n")[0][:100]
        raise UserError(
            f"{uri}: weights cannot be read safely ({reason}); save the state dict, tensors only, "
            "with torch.save or safetensors"
        ) from error
    if isinstance(state, Mapping) and isinstance(state.get("model"), Mapping):
        state = state["model"]
    if not isinstance(state, Mapping):
        raise UserError(f"{uri}: the file contains a {type(state).__name__}; save a state dict, or one under 'model'")
    return {str(name): _tensor(value, f"{uri}: {name}") for name, value in state.items()}


def check_keys(tensors: Mapping[str, Tensor], uri: str) -> None:
    """Raises UserError if keys are missing or unexpected or shapes differ, with counts and the first names."""
    shapes = checkpoint_shapes()
    missing = [name for name in shapes if name not in tensors and not name.endswith(COUNTERS)]
    unexpected = [name for name in tensors if name not in shapes]
    wrong = [
        f"{name} {tuple(tensors[name].shape)} for {shape}"
        for name, shape in shapes.items()
        if name in tensors and tuple(tensors[name].shape) != shape
    ]
    found = {"missing": missing, "unexpected": unexpected, "wrong shapes": wrong}
    report = [f"{len(names)} {what} ({_first(names)})" for what, names in found.items() if names]
    if report:
        raise UserError(
            f"{uri}: not the bottom-up checkpoint of {len(shapes)} keys ({'; '.join(report)}); "
            "give the Visual Genome Faster R-CNN (ResNet-101 C4) with attributes"
        )


def _tensor(value: Any, what: str) -> Tensor:
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(value)
    if not isinstance(value, Tensor):
        raise UserError(f"{what} is a {type(value).__name__}; save the state dict alone, tensors only")
    return value


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED_KEYS]) + (", ..." if len(names) > _NAMED_KEYS else "")
